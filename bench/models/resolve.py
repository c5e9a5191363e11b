"""From arguments of ``h2ot_core.build`` to a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.records.case import Case

MODEL_ARGUMENTS = ("host", "scheme", "prune", "recover", "frames", "r", "b", "pipeline")
"""Arguments that decide fields of a case; all others are its options."""


def resolve(arguments: Mapping[str, Any], **setting: Any) -> Case:
    """The case that arguments of ``h2ot_core.build`` mean, its schedule and strategies filled in.

    Options stay as they are, so that defaults do not become part of a case's name;
    ``strategy_options`` names those that the baseline lacks.

    Args:
        arguments: of ``h2ot_core.build``, the host among them.
        setting: further fields of the case, such as its device.

    Raises:
        h2ot_core.ConfigError: for arguments that ``build`` refuses.
    """
    from bench.models.build import blank_model  # with PyTorch, which the help does not wait for
    from h2ot_core import PRUNERS, RECOVERERS

    config = blank_model(dict(arguments))[0].config
    options = {name: value for name, value in arguments.items() if name not in MODEL_ARGUMENTS}
    case = Case(
        host=config.host, frames=config.frames, prune=config.prune, recover=config.recover,
        r=config.r, b=config.b, pipeline=config.pipeline, options=tuple(sorted(options.items())),
        **setting,
    )  # fmt: skip
    kinds: list[Any] = [
        registry[name]
        for name, registry in ((config.prune, PRUNERS), (config.recover, RECOVERERS))
        if name is not None
    ]
    own = {name for kind in kinds for name in kind.options} & options.keys()
    # The paper's strategies go unlisted, as in every record that was written before.
    listed = own & {name for name, _ in case.baseline.options}
    return replace(case, strategy_options=tuple(sorted(listed)))

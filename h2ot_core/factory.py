"""The one constructor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from h2ot_core import kernels
from h2ot_core.errors import ConfigError, unknown
from h2ot_core.hosts import HOSTS
from h2ot_core.hourglass import Config, Hourglass
from h2ot_core.prune import PRUNERS
from h2ot_core.recover import RECOVERERS
from h2ot_core.schedule import Schedule, middle, odd_nearest


@dataclass(frozen=True)
class Scheme:
    """A named combination of strategies from the paper or its predecessor.

    ``divisors`` gives the default r: the odd integers nearest F over each.
    """

    prune: str | None
    recover: str | None
    pipeline: str
    divisors: tuple[int, ...]


SCHEMES: dict[str, Scheme] = {
    "none": Scheme(None, None, "seq2seq", ()),
    "hot": Scheme("tpc", "tra", "seq2seq", (3,)),
    "tpc": Scheme("tpc", None, "seq2frame", (3,)),
    "tpm": Scheme("tps", None, "seq2frame", (2, 3)),
    "h2ot": Scheme("tps", "tri", "seq2seq", (2, 3)),
}
PIPELINES = ("seq2seq", "seq2frame")


def build(
    host: str,
    *,
    frames: int | None = None,
    scheme: str | None = None,
    r: int | Iterable[int] | None = None,
    b: int | Iterable[int] | None = None,
    prune: str | None = None,
    recover: str | None = None,
    pipeline: str | None = None,
    **options: Any,
) -> Hourglass:
    """Build a video pose transformer with pruning and recovering.

    None means the published value of the host and scheme; what is given overrides the scheme,
    one by one.

    Args:
        host: a name in ``HOSTS``, such as "mixste".
        frames: F, frames per window.
        scheme: "none" (the host alone), "hot" (TPC + TRA, one stage), "tpc" (TPC alone,
            seq2frame), "tpm" (TPS alone, two stages, seq2frame) or "h2ot" (TPS + TRI, two
            stages; the default).
        r: frames kept by each stage, decreasing; for another F than published the odd integers
            nearest F/2 and F/3. Empty r and b mean no pruning, and so nothing to recover.
        b: the block before which each stage acts, increasing, from 0.
        prune: "tpc", "tpa", "tpmo", "tps", or "none".
        recover: "tra", "tri", or "none".
        pipeline: "seq2seq" (all frames out) or "seq2frame" (the centre frame out, which
            every stage then keeps; r counts it).
        **options: sizes of the host (``width``, ``depth``, ``heads``, ``mlp_hidden``,
            ``joints``) and options of the strategies in use (``tps_rounding``, ``tpa_axis``,
            ``tpmo_measure``, ``tpmo_first``, ``tpc_k``, ``tpc_seed``, ``tpc_max``, ``tri_mode``,
            ``tri_where``, ``tri_frames``), as their classes describe.

    Returns:
        A model that maps (B, F, J, C_in) to (B, F, J, 3), or (B, 1, J, 3) for seq2frame.

    Raises:
        ConfigError: for an unknown name or option, or a combination that cannot work.
    """
    kernels.requested()  # an unknown value of H2OT_KERNELS is told before anything is built
    if host not in HOSTS:
        raise unknown("host", host, HOSTS)
    kind = HOSTS[host]
    scheme = kind.default_scheme if scheme is None else scheme
    if scheme not in SCHEMES:
        raise unknown("scheme", scheme, SCHEMES)
    preset = SCHEMES[scheme]
    prune_name = _strategy("pruner", prune, preset.prune, PRUNERS)
    recover_name = _strategy("recoverer", recover, preset.recover, RECOVERERS)
    if pipeline is None:
        pipeline = preset.pipeline if preset.prune else kind.pipelines[0]
    if pipeline not in PIPELINES:
        raise unknown("pipeline", pipeline, PIPELINES)
    if pipeline not in kind.pipelines:
        raise ConfigError(
            f"{host} is a {' or '.join(kind.pipelines)} host, it cannot be {pipeline} (scheme "
            f"{scheme!r}); choose scheme {' or '.join(map(repr, ('none', *kind.published_b)))}."
        )
    if recover_name is not None and "seq2seq" not in kind.pipelines:
        raise ConfigError(
            f"{host} puts out the centre frame alone, which is always kept, so there is nothing "
            f"to recover; leave recover = {recover_name!r} out."
        )

    sizes = dict(kind.sizes)
    sizes.update({name: options[name] for name in sizes if options.get(name) is not None})
    if frames is not None:
        sizes["frames"] = frames
    _check_sizes(sizes)
    frames = sizes.pop("frames")

    if prune_name is None:
        for name, value in (("r", r), ("b", b)):
            if value is not None and value != () and value != []:
                raise ConfigError(
                    f"{name} = {value} needs a pruner, but prune is 'none' (scheme {scheme!r}). "
                    f"Give prune, one of {', '.join(PRUNERS)}."
                )
        if recover is not None and recover_name is not None:
            raise ConfigError(
                f"recover = {recover!r} has nothing to recover without a pruner; give prune, or "
                f"leave recover out."
            )
        r, b = (), ()
    else:
        if r is None:
            if not preset.divisors:
                raise ConfigError(
                    f"prune = {prune!r} with scheme {scheme!r} needs r and b: it has no published "
                    f"schedule."
                )
            r = tuple(odd_nearest(frames, divisor) for divisor in preset.divisors)
        if b is None:
            if scheme not in kind.published_b:
                raise ConfigError(f"prune = {prune!r} with scheme {scheme!r} needs b.")
            b = kind.published_b[scheme]
    schedule = Schedule(frames, r, b, kind.blocks(sizes["depth"]))  # type: ignore[arg-type]
    if schedule.stages == 0:
        prune_name = recover_name = None
    elif recover_name is None and pipeline == "seq2seq":
        raise ConfigError(
            f"seq2seq returns all {frames} frames, but recover is 'none', so the pruned ones would "
            f"be missing. Give recover, one of {', '.join(RECOVERERS)}, or pipeline='seq2frame'."
        )

    pruner_options = _strategy_options(options, PRUNERS, prune_name, "prune")
    recoverer_options = _strategy_options(options, RECOVERERS, recover_name, "recover")
    if pipeline == "seq2seq" and recoverer_options.get("tri_frames") not in (None, 0, frames):
        raise ConfigError(
            f"seq2seq returns all {frames} frames, so tri_frames must be {frames} or left out, got "
            f"{recoverer_options['tri_frames']}; use pipeline='seq2frame'."
        )
    known = {*kind.sizes, *_all_options()}
    for name in options:
        if name not in known:
            raise unknown("option", name, sorted(known))

    model_host = kind(schedule, **sizes)
    pruner = recoverer = None
    if prune_name is not None:
        pruner_kind = PRUNERS[prune_name]
        if pruner_kind.requires == "attention":
            for block in schedule.b:
                if model_host.score_step(block) is None:
                    raise ConfigError(
                        f"prune = {prune_name!r} scores frames by the temporal attention of the "
                        f"block before a stage, and there is none before b = {block}. "
                        f"Use b >= 1, got b = {list(schedule.b)}."
                    )
        centre = middle(frames) if pipeline == "seq2frame" else None
        pruner = pruner_kind(schedule, centre, **pruner_options)
    if recover_name is not None:
        recoverer = RECOVERERS[recover_name](
            schedule,
            model_host.width,
            model_host.heads,
            qkv_bias=model_host.qkv_bias,
            **recoverer_options,
        )
    resolved = {**sizes, **pruner_options, **recoverer_options}
    config = Config(
        host=host,
        frames=frames,
        scheme=scheme,
        r=schedule.r,
        b=schedule.b,
        prune=prune_name,
        recover=recover_name,
        pipeline=pipeline,
        options=tuple(sorted(resolved.items())),
    )
    return Hourglass(model_host, schedule, pruner, recoverer, config)


def _strategy(
    kind: str, given: str | None, preset: str | None, registry: Mapping[str, Any]
) -> str | None:
    """The registry name asked for, the preset's if nothing was; None for "none"."""
    if given is None:
        return preset
    name = str(given).lower()
    if name == "none":
        return None
    if name not in registry:
        raise unknown(kind, given, [*registry, "none"])
    return name


def _check_sizes(sizes: Mapping[str, Any]) -> None:
    for name, value in sizes.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ConfigError(f"{name} must be a whole number, got {value!r}.")
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}.")
    if sizes["width"] % sizes["heads"]:
        raise ConfigError(
            f"heads must divide width, got width = {sizes['width']} and heads = {sizes['heads']}."
        )


def _all_options() -> list[str]:
    kinds: list[Any] = [*PRUNERS.values(), *RECOVERERS.values()]
    return [name for kind in kinds for name in kind.options]


def _strategy_options(
    given: Mapping[str, Any], registry: Mapping[str, Any], name: str | None, argument: str
) -> dict[str, Any]:
    """The options of the strategy in use, checked; an error for those of one that is not."""
    for other, kind in registry.items():
        for option in kind.options:
            if given.get(option) is not None and other != name:
                raise ConfigError(
                    f"{option} is an option of {argument} = {other!r}, but {argument} is "
                    f"{name or 'none'!r}; leave it out."
                )
    if name is None:
        return {}
    resolved = {}
    for option, default in registry[name].options.items():
        value = given.get(option)
        if isinstance(default, tuple):
            value = default[0] if value is None else value
            if value not in default:
                raise unknown(f"value of {option}", value, default)
        elif value is None:
            value = default
        elif isinstance(default, int) and (isinstance(value, bool) or not isinstance(value, int)):
            raise ConfigError(f"{option} must be a whole number, got {value!r}.")
        resolved[option] = value
    return resolved

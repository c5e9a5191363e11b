"""The one constructor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from h2ot_core import kernels
from h2ot_core.errors import ConfigError, unknown
from h2ot_core.hosts import HOSTS
from h2ot_core.hosts.base import AbstractHost
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

    None means the published value of the host and scheme; every other argument overrides the
    scheme's.

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
    kernels.requested()  # an unknown value of H2OT_KERNELS is reported before anything is built
    if host not in HOSTS:
        raise unknown("host", host, HOSTS)
    kind = HOSTS[host]
    scheme = kind.default_scheme if scheme is None else scheme
    if scheme not in SCHEMES:
        raise unknown("scheme", scheme, SCHEMES)
    preset = SCHEMES[scheme]
    prune_name = _strategy("pruner", prune, preset.prune, PRUNERS)
    recover_name = _strategy("recoverer", recover, preset.recover, RECOVERERS)
    pipeline = _pipeline(host, pipeline, scheme)
    if recover_name is not None and "seq2seq" not in kind.pipelines:
        raise ConfigError(
            f"{host} puts out the centre frame alone, which is always kept, so there is nothing "
            f"to recover; leave recover = {recover_name!r} out."
        )
    sizes = _sizes(host, frames, options)
    frames = sizes.pop("frames")
    if prune_name is None:
        _check_unpruned(scheme, r, b, recover if recover_name is not None else None)
        r, b = (), ()
    kept, before = _stages(host, scheme, prune_name, frames, r, b)
    schedule = Schedule(frames, kept, before, kind.blocks(sizes["depth"]))
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
        _check_attention(prune_name, model_host, schedule)
        centre = middle(frames) if pipeline == "seq2frame" else None
        pruner = PRUNERS[prune_name](schedule, centre, **pruner_options)
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
    kind: str, name: str | None, preset: str | None, registry: Mapping[str, Any]
) -> str | None:
    """The registry name asked for, the preset's if none was; None for "none"."""
    if name is None:
        return preset
    lower = str(name).lower()
    if lower == "none":
        return None
    if lower not in registry:
        raise unknown(kind, name, [*registry, "none"])
    return lower


def _pipeline(host: str, pipeline: str | None, scheme: str) -> str:
    kind, preset = HOSTS[host], SCHEMES[scheme]
    if pipeline is None:
        pipeline = preset.pipeline if preset.prune else kind.pipelines[0]
    if pipeline not in PIPELINES:
        raise unknown("pipeline", pipeline, PIPELINES)
    if pipeline not in kind.pipelines:
        raise ConfigError(
            f"{host} is a {' or '.join(kind.pipelines)} host, it cannot be {pipeline} (scheme "
            f"{scheme!r}); choose scheme {' or '.join(map(repr, ('none', *kind.published_b)))}."
        )
    return pipeline


def _sizes(host: str, frames: int | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The host's sizes, frames among them, checked."""
    sizes = dict(HOSTS[host].sizes)
    sizes.update({name: options[name] for name in sizes if options.get(name) is not None})
    if frames is not None:
        sizes["frames"] = frames
    for name, value in sizes.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ConfigError(f"{name} must be a whole number, got {value!r}.")
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}.")
    if sizes["width"] % sizes["heads"]:
        raise ConfigError(
            f"heads must divide width, got width = {sizes['width']} and heads = {sizes['heads']}."
        )
    return sizes


def _check_unpruned(scheme: str, r: Any, b: Any, recover: str | None) -> None:
    """Refuse what only means something with a pruner."""
    for name, value in (("r", r), ("b", b)):
        if value is not None and value != () and value != []:
            raise ConfigError(
                f"{name} = {value} needs a pruner, but prune is 'none' (scheme {scheme!r}). "
                f"Give prune, one of {', '.join(PRUNERS)}."
            )
    if recover is not None:
        raise ConfigError(
            f"recover = {recover!r} has nothing to recover without a pruner; give prune, or "
            f"leave recover out."
        )


def _stages(
    host: str, scheme: str, prune: str | None, frames: int, r: Any, b: Any
) -> tuple[Any, Any]:
    """The arguments r and b, or the published ones."""
    preset, published = SCHEMES[scheme], HOSTS[host].published_b
    if r is None:
        if not preset.divisors:
            raise ConfigError(
                f"prune = {prune!r} with scheme {scheme!r} needs r and b: it has no published "
                f"schedule."
            )
        r = tuple(odd_nearest(frames, divisor) for divisor in preset.divisors)
    if b is None:
        if scheme not in published:
            raise ConfigError(f"prune = {prune!r} with scheme {scheme!r} needs b.")
        b = published[scheme]
    return r, b


def _check_attention(prune: str, host: AbstractHost, schedule: Schedule) -> None:
    """Refuse a pruner that scores by attention where no block stands before a stage."""
    if PRUNERS[prune].requires != "attention":
        return
    for block in schedule.b:
        if host.score_step(block) is None:
            raise ConfigError(
                f"prune = {prune!r} scores frames by the temporal attention of the block before a "
                f"stage, and there is none before b = {block}. Use b >= 1, got "
                f"b = {list(schedule.b)}."
            )


def _all_options() -> list[str]:
    kinds: list[Any] = [*PRUNERS.values(), *RECOVERERS.values()]
    return [name for kind in kinds for name in kind.options]


def _strategy_options(
    options: Mapping[str, Any], registry: Mapping[str, Any], name: str | None, argument: str
) -> dict[str, Any]:
    """The options of the strategy in use, checked; an error for those of one that is not."""
    for other, kind in registry.items():
        for option in kind.options:
            if options.get(option) is not None and other != name:
                raise ConfigError(
                    f"{option} is an option of {argument} = {other!r}, but {argument} is "
                    f"{name or 'none'!r}; leave it out."
                )
    if name is None:
        return {}
    resolved = {}
    for option, default in registry[name].options.items():
        value = options.get(option)
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

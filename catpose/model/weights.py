"""Starting a pose model from weights trained elsewhere: the file's layout, what fits and what doesn't."""

from __future__ import annotations

import copy
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError, get_session
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from catpose.errors import InputError, one_line
from catpose.files import read_json
from catpose.model.layouts import LAYOUTS, TIMM, Rules, assembled, differing_heads
from catpose.model.normalisation import IMAGENET, JAX_VIT, described, normalisation
from catpose.model.tensor_file import read_content, tensors_of
from catpose.naming import meanings
from catpose.shipped import shipped_models
from catpose.skeleton import AP10K, Skeleton

REMEDY = "give --model.weights FILE (a local file), or --model.weights null for a random start"

# The hub's name for weights that have no safetensors yet.
_OLD_FILE = "pytorch_model.bin"

# A config.json is some hundred bytes long; a longer one isn't timm's.
LONGEST_CONFIG = 2**20

# What of a model learns: the codec's readout has weights too where it is SimCC's.
_LEARNT = ("backbone.", "head.", "readout.")

# Below this part of the backbone's elements, a file belongs to another network and is refused.
LEAST_MATCH = 0.5


def load_weights(model: nn.Module, weights: str) -> str:
    """Load `weights` into `model`'s backbone, and into its head where shapes fit; print and return a report.

    With the weights come the mean and std that they were trained with, as far as these are known: see `_normalisation`.

    Args:
        model: has `backbone` (a timm network), `head`, `timm_name` (None for a network that isn't timm's), `mean` and
            `std`.
        weights: `imagenet` for the weights that timm knows under `timm_name`, another of their tags (`a1_in1k`), the
            name of a file that comes with catpose (`catpose.shipped`), or a file: timm's, torchvision's, a
            checkpoint or weights file of ours, or a checkpoint in one of `LAYOUTS`, as `.safetensors`, `.pth`, `.pt`,
            `.ckpt` or `.npz`. Names and shapes decide; ViTPose, say, is a starting point only, since it pads its
            patches and has no class token.

    Raises:
        InputError: no network and nothing cached; no usable file; values that aren't finite floats; or less than
            `LEAST_MATCH` of the backbone in it. The model is as it was before.
    """
    file, config = _file(weights, getattr(model, "timm_name", None))
    content = read_content(file)
    source = tensors_of(content, file)
    if any(name.endswith("embedding/kernel") for name in source) and hasattr(_network(model), "load_pretrained"):
        source, config = _converted(file, model), JAX_VIT
    source, theirs = assembled({_bare(n): tensor for n, tensor in source.items() if "num_batches" not in n}, content)
    state = {_bare(name): tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    state = {name: tensor for name, tensor in state.items() if name.startswith(_LEARNT)}

    found = {layout: _in_our_names(source, rules, state, model) for layout, rules in LAYOUTS.items()}
    layout = max(LAYOUTS, key=lambda layout: _agreement(found[layout], state))
    named = found[layout]
    theirs = _keypoints_of(content, file) if layout == "catpose" else theirs
    ours: Skeleton = getattr(model, "skeleton", AP10K)
    named, by_name = (named, "") if theirs is None else _head_by_name(named, state, theirs, ours)
    fit = _fitting(named, state)
    backbone = {name: tensor.numel() for name, tensor in state.items() if name.startswith("backbone.")}
    part = sum(backbone[name] for name in fit if name in backbone) / sum(backbone.values())
    if part < LEAST_MATCH:
        network = content["network"] if isinstance(content, dict) and "network" in content else None
        holds = one_line(network)[:100] if network else f"it holds {_groups(source)}"
        raise InputError(
            f"{file} fits {part:.0%} of the backbone's weights, so it belongs to another network ({holds}); {REMEDY}"
        )
    values = {name: _checked(tensor, state[name], f"{file}: {name}") for name, tensor in fit.items()}
    scale, whose = _normalisation(model, file, config, layout, named)
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
        for name, value in scale.items():
            getattr(model, name).copy_(value)
    lines = _report(f"weights from {file} ({layout})", state, named, fit)
    lines += filter(None, (by_name, differing_heads(source, _network(model))))
    if isinstance(content, dict) and content.get("trained_on"):
        lines.append(f"trained on {one_line(content['trained_on'])[:300]}")
    report = "\n  ".join([*lines, f"pictures are scaled by {described(scale)} ({whose})"])
    rank_zero_only(print)(report)
    return report


def _normalisation(
    model: nn.Module, file: Path, config: Mapping[str, Any] | None, layout: str, named: dict[str, Tensor]
) -> tuple[Mapping[str, Tensor], str]:
    """Mean and std that a file's weights were trained with, and where they come from.

    catpose's checkpoints hold them; those of 0.1.0 and published pose checkpoints use ImageNet's. timm's files don't
    state them, but their `pretrained_cfg` does. For any other file they are the backbone's.
    """
    if layout == "catpose" and {"mean", "std"} <= named.keys():
        return _stored(named, file), "the checkpoint's own"
    if layout != TIMM and (layout != "catpose" or any(name.startswith("head.") for name in named)):
        return normalisation(IMAGENET), f"ImageNet's, as {'catpose 0.1.0' if layout == 'catpose' else layout} has it"
    if config is not None:
        return normalisation(config, str(file)), f"these weights', by timm's {config.get('architecture', 'release')}"
    own = {name: model.get_buffer(name) for name in ("mean", "std")}
    return own, "the backbone's, since the file doesn't tell"


def _keypoints_of(content: object, file: Path) -> tuple[str, ...] | None:
    """Those of a checkpoint of ours; None of a file that isn't one."""
    if not isinstance(content, dict) or "catpose" not in content:
        return None
    try:
        return (Skeleton.from_plain(content["skeleton"]) if "skeleton" in content else AP10K).names
    except InputError as error:
        raise InputError(f"{file}: {error}; {REMEDY}") from None


def _head_by_name(
    named: dict[str, Tensor], state: dict[str, Tensor], theirs: tuple[str, ...], ours: Skeleton
) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, the last convolution's rows put where the model has the same keypoints.

    Args:
        theirs: the names of the file's keypoints, in the model's words or others that mean the same, as `L_F_Paw`.

    Returns:
        the tensors, as they are where both have the same keypoints; what was done, "" for nothing.
    """
    last = [name for name in ("head.final.weight", "head.final.bias") if name in named and name in state]
    place = meanings(theirs)[0] | {name: i for i, name in enumerate(theirs)}
    shared = [name for name in ours.names if name in place]
    of = [place[name] for name in shared]
    if of == [*range(len(theirs))] == [*range(len(ours))] or any(
        named[name].shape != (len(theirs), *state[name].shape[1:]) for name in last
    ):
        return named, ""
    to = ours.indices(*shared)
    renamed = dict(named)
    for name in last:
        renamed[name] = state[name].detach().clone()
        renamed[name][to] = named[name][of].to(renamed[name])
    new = [name for name in ours.names if name not in place]
    starts = f"; at their random start: {', '.join(new)}" if new else ""
    return renamed, f"heatmaps by name: {len(shared)} of {len(ours)} keypoints from the file's {len(theirs)}{starts}"


def _stored(named: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    scale = {name: named[name].float() for name in ("mean", "std")}
    if not all(value.numel() == 3 and value.isfinite().all() for value in scale.values()) or scale["std"].min() <= 0:
        raise InputError(f"{file}: its mean and std are none of red, green and blue, std above 0; {REMEDY}")
    return {name: value.reshape(1, 3, 1, 1) for name, value in scale.items()}


def _in_our_names(
    source: dict[str, Tensor], rules: Rules, state: dict[str, Tensor], model: nn.Module
) -> dict[str, Tensor]:
    """`source` under our names, as `rules` have them; tensors that we have no name for keep theirs."""
    renamed = {}
    for name, tensor in source.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    # timm's feature networks flatten the first level of some architectures: stages.0.conv is stages_0.conv there.
    flat = {name.replace(".", "_"): name for name in state}
    return {flat.get(name.replace(".", "_"), name): tensor for name, tensor in _resampled(renamed, model).items()}


def _resampled(named: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """`named` with a transformer's position and patch embeddings brought to this network's size, as timm does it."""
    network = _network(model)
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is None or not hasattr(network, "patch_embed"):
        return named
    own = {name.removeprefix("backbone."): tensor for name, tensor in named.items() if name.startswith("backbone.")}
    try:
        adapted = adapt(dict(own), network)
    except Exception:  # names that fit, shapes that don't: these are reported like any other that don't
        return named
    rest = {name: tensor for name, tensor in named.items() if not name.startswith("backbone.")}
    return rest | {f"backbone.{name}": tensor for name, tensor in adapted.items()}


def _network(model: nn.Module) -> nn.Module:
    backbone = model.get_submodule("backbone")
    inner = getattr(backbone, "model", None)  # timm wraps transformers so, to take features from their blocks
    return inner if isinstance(inner, nn.Module) else backbone


def _bare(name: str) -> str:
    """`name` without what wrappers (data parallel, compiled, Lightning, timm, DeepLabCut) put before it."""
    name = re.sub(r"^((module|model|_orig_mod)\.)+", "", name.replace("._orig_mod.", "."))
    return name.replace("backbone.model.", "backbone.", 1) if name.startswith("backbone.model.") else name


def _fitting(named: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in named.items() if name in state and tensor.shape == state[name].shape}


def _agreement(named: dict[str, Tensor], state: dict[str, Tensor]) -> tuple[int, int]:
    """How many numbers of `state` can be filled, and how many of its tensors are named, whatever their shape."""
    fit = _fitting(named, state)
    return sum(tensor.numel() for tensor in fit.values()), len(named.keys() & state.keys())


def _checked(tensor: Tensor, ours: Tensor, where: str) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
        raise InputError(f"{where} is {tensor.dtype}, quantised, sparse or empty; {REMEDY}")
    tensor = tensor.to(ours.dtype)
    if not tensor.isfinite().all():
        raise InputError(f"{where} holds NaN or infinity: a training that diverged, or a damaged file; {REMEDY}")
    return tensor


def _report(title: str, state: dict[str, Tensor], named: dict[str, Tensor], fit: dict[str, Tensor]) -> list[str]:
    def counted(prefix: str) -> str:
        return f"{sum(k.startswith(prefix) for k in fit)} of {sum(k.startswith(prefix) for k in state)}"

    lines = [f"{title}: {counted('backbone.')} backbone tensors, {counted('head.')} head tensors"]
    misfits = [name for name in named if name in state and name not in fit]
    shapes = [f"{name} is {tuple(named[name].shape)}, here {tuple(state[name].shape)}" for name in misfits]
    if shapes:
        lines.append(f"another shape: {'; '.join(shapes[:3])}{f'; and {len(shapes) - 3} more' if shapes[3:] else ''}")
    if len(fit) < len(state):
        lines.append(f"at their random start: {_groups(name for name in state if name not in fit)}")
    unused = [name.removeprefix("backbone.") for name in named if name not in state and name not in ("mean", "std")]
    if unused:
        lines.append(f"not used: {_groups(unused)}")
    return lines


def _groups(names: Iterable[str]) -> str:
    """`layer1 (60), head.final (2)`: modules up to their first number or parameter, with how many tensors each has."""
    ends = r"\.\d+\.|\.(?:weight|bias|running_mean|running_var)$"
    groups = Counter(re.split(ends, name, maxsplit=1)[0] for name in names)
    shown = [f"{group} ({count})" for group, count in groups.most_common(6)]
    return ", ".join(shown) + (f" and {len(groups) - 6} modules more" if len(groups) > 6 else "")


def _converted(file: Path, model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the vision transformers' original JAX release (`.npz`) as timm converts them."""
    converted: Any = copy.deepcopy(_network(model))
    try:
        converted.load_pretrained(str(file))
    except Exception as error:  # it indexes the file's arrays by name and number, so any of its errors is the file's
        raise InputError(
            f"{file}: timm can't read it as a vision transformer ({one_line(error)[:100]}); {REMEDY}"
        ) from None
    return converted.state_dict()


def _file(weights: str, timm_name: str | None) -> tuple[Path, Mapping[str, Any] | None]:
    """The local file that `weights` means, and timm's `pretrained_cfg` of it where it is known.

    timm's own are fetched from the Hugging Face hub, or found in its cache.
    """
    path, ours = Path(weights).expanduser(), shipped_models()
    if weights in ours:
        return ours[weights], None
    if weights != "imagenet" and (path.exists() or path.suffix or len(path.parts) > 1):
        return path, _config_beside(path)
    if weights == "imagenet" and timm_name is None:
        raise InputError(
            f"model.weights=imagenet: this backbone isn't one of timm's, which have such weights; {REMEDY}"
        )
    if weights == "imagenet":
        return _hub_file(str(timm_name), weights)
    architecture = (timm_name or "").split(".")[0]
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")] if architecture else []
    if weights not in tags:
        known = f"nor tag of timm's {architecture} ({', '.join(tags) or 'none'}), " if architecture else ""
        names = ", ".join(ours) or "none"
        raise InputError(
            f"model.weights={weights}: no such file, {known}nor one that comes with catpose ({names}); {REMEDY}"
        )
    return _hub_file(f"{architecture}.{weights}", weights)


def _config_beside(path: Path) -> Mapping[str, Any] | None:
    """The `pretrained_cfg` in the `config.json` beside timm's files on the hub; None if absent."""
    beside = path.with_name("config.json")
    try:
        content = read_json(beside, LONGEST_CONFIG)
        config = content["pretrained_cfg"]
        return {"architecture": content["architecture"], "mean": config["mean"], "std": config["std"]}
    except (InputError, KeyError, TypeError):  # somebody else's config.json
        return None


def _hub_file(name: str, weights: str) -> tuple[Path, Mapping[str, Any]]:
    try:
        pretrained = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # timm knows the architecture, but no such tag of it
        raise InputError(f"model.weights={weights}: {one_line(error)} {REMEDY}") from None
    if pretrained is None or not pretrained.has_weights:
        raise InputError(f"model.weights={weights}: timm has no pretrained weights of {name}; {REMEDY}")
    if not pretrained.hf_hub_id:
        raise InputError(f"model.weights={weights}: fetch {pretrained.url} yourself, then {REMEDY}")
    config = pretrained.to_dict()
    hub, file = pretrained.hf_hub_id, pretrained.hf_hub_filename or "model.safetensors"
    for name in (file, _OLD_FILE):
        cached = try_to_load_from_cache(hub, name)
        if isinstance(cached, str):
            return Path(cached), config
    try:
        get_session().head(constants.ENDPOINT, timeout=5)  # a single request: the download itself retries for 23 s
        try:
            return Path(hf_hub_download(hub, file)), config
        except LocalEntryNotFoundError:  # the hub is out of reach after all
            raise
        except EntryNotFoundError:
            return Path(hf_hub_download(hub, _OLD_FILE)), config
    except Exception as error:  # of whichever HTTP library this version of the hub's client uses
        reason = one_line(error.__cause__ or error)[:150]
        raise InputError(f"model.weights={weights}: {hub} can't be fetched ({reason}); {REMEDY}") from None

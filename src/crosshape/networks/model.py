"""The three networks together: encode, save, load, describe."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from crosshape.errors import CrosshapeError, UsageError
from crosshape.files import parse_json
from crosshape.networks.correspondence import CorrespondenceNetwork
from crosshape.networks.images import ImageNetwork
from crosshape.networks.points import PointNetwork
from crosshape.settings import FEATURES, NetworkSettings, PrepareSettings, changed

if TYPE_CHECKING:
    from crosshape.console import Progress

WEIGHTS, CARD = "model.safetensors", "card.json"
GRAPHS = ("features", "space")
SHIPPED = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class ShapeFeatures:
    """What the model sees in one shape: `points` (512,) and `views` (V, 512), float32."""

    points: np.ndarray
    views: np.ndarray


class Model(nn.Module):
    """Image network, point network and correspondence network; settings, and a card of how it came about."""

    def __init__(
        self, settings: NetworkSettings | None = None, *, points: int = 1024, image_size: int = 112
    ) -> None:
        super().__init__()
        self.settings = settings or NetworkSettings()
        self.point_count = points
        self.image_size = image_size
        self.comparable = False
        self.card: dict[str, Any] = {}
        self.source: str | None = None  # the run folder, or the name of a shipped model
        self.images = ImageNetwork(self.settings)
        self.points = PointNetwork(self.settings)
        self.correspondence = CorrespondenceNetwork(self.settings)

    @property
    def device(self) -> torch.device:
        return self.correspondence.first.weight.device

    @property
    def fingerprint(self) -> str:
        """8 hexadecimal digits over settings and weights: equal for equal features."""
        digest = hashlib.sha256(json.dumps(self._sizes(), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:8]

    def _sizes(self) -> dict[str, Any]:
        return {
            "network": _without_later(asdict(self.settings)),
            "points": self.point_count,
            "image_size": self.image_size,
            "comparable": self.comparable,
        }

    def encode_points(
        self,
        points: np.ndarray,
        *,
        layer: str = "features",
        batch_size: int = 32,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Clouds (N, P, 3) float32, unit sphere, Z up -> (N, 512) float32.

        The first `point_count` of the P points are used. layer "pooled" gives the 2 W numbers before the last
        layer instead, "all" both, the 512 first. Raises UsageError for arrays of another shape.
        """
        if points.ndim != 3 or points.shape[2] != 3:
            raise UsageError(f"clouds must be of shape (N, P, 3), not {points.shape}")
        widths = {"features": FEATURES, "pooled": 2 * self.settings.point_width}
        widths["all"] = sum(widths.values())
        if layer not in widths:
            raise UsageError(f"layer is {layer!r}; it must be 'features', 'pooled' or 'all'")

        def run(block: np.ndarray) -> Tensor:
            clouds = torch.from_numpy(np.ascontiguousarray(block[:, : self.point_count], np.float32))
            pooled = self.points.pooled(clouds.to(self.device))
            if layer == "pooled":
                return pooled
            features = self.points.describe(pooled)
            return (
                features if layer == "features" else torch.cat([features, pooled.to(features.dtype)], dim=1)
            )

        return self._encode(run, points, widths[layer], batch_size, progress)

    def encode_views(
        self, views: np.ndarray, *, batch_size: int = 16, progress: Progress | None = None
    ) -> np.ndarray:
        """Views uint8 (N, V, S, S) with S = `image_size` -> (N, V, 512) float32."""
        if views.ndim != 4 or views.dtype != np.uint8 or views.shape[2:] != (self.image_size,) * 2:
            raise UsageError(
                f"views must be uint8 (N, V, {self.image_size}, {self.image_size}), "
                f"not {views.dtype} {views.shape}"
            )

        def run(block: np.ndarray) -> Tensor:
            pictures = torch.from_numpy(np.ascontiguousarray(block)).to(self.device)
            return self.images(pictures.flatten(0, 1)).view(*pictures.shape[:2], FEATURES)

        flat = self._encode(run, views, FEATURES, batch_size, progress, extra=(views.shape[1],))
        return flat

    def _encode(
        self,
        run: Any,
        items: np.ndarray,
        width: int,
        batch_size: int,
        progress: Progress | None,
        extra: tuple[int, ...] = (),
    ) -> np.ndarray:
        out = np.empty((len(items), *extra, width), np.float32)
        was_training = self.training
        self.eval()
        try:
            for start in range(0, len(items), batch_size):
                block = items[start : start + batch_size]
                with torch.inference_mode(), autocast(self.device):
                    out[start : start + len(block)] = run(block).float().cpu().numpy()
                if progress is not None:
                    progress.advance(len(block))
        finally:
            self.train(was_training)
        return out

    def encode(self, shape: str | Path) -> ShapeFeatures:
        """Features of a shape file, read, sampled and rendered as in a library of default settings."""
        from crosshape.shapes.guard import Guard
        from crosshape.shapes.prepare import prepare_file
        from crosshape.shapes.views import downscale

        settings = PrepareSettings(points=max(2048, self.point_count), image_size=max(224, self.image_size))
        with Guard(1) as guard:
            prepared = guard.call(prepare_file, Path(shape), settings)
        views = downscale(prepared.views, self.image_size)
        return ShapeFeatures(self.encode_points(prepared.points[None])[0], self.encode_views(views[None])[0])

    def correspond(self, views: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Picture features (A, 512) and point features (B, 512) -> logits (A, B) of "same object"."""
        with torch.inference_mode():
            return (
                self.correspondence.all_pairs(
                    torch.from_numpy(views).to(self.device), torch.from_numpy(points).to(self.device)
                )
                .cpu()
                .numpy()
            )

    def save(self, folder: str | Path, half: bool = False) -> None:
        """Write model.safetensors and card.json; each appears whole or not at all.

        half: with 16 bits a number, which is another model by its fingerprint. Raises ValueError for weights
        that 16 bits cannot hold.
        """
        from safetensors.torch import save

        from crosshape.files import write_whole

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if half:
            rounded = copy.deepcopy(self).half()
            if not all(bool(v.isfinite().all()) for v in rounded.state_dict().values()):
                raise ValueError("some weights are too large for 16 bits a number")
            state, written = rounded.state_dict(), rounded.float()
        else:
            state, written = self.state_dict(), self
        state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        card = {**self.card, "fingerprint": written.fingerprint, "model": self._sizes()}
        write_whole(folder / WEIGHTS, save(state, metadata={"format": "crosshape 1"}))
        write_whole(folder / CARD, json.dumps(card, indent=2).encode() + b"\n")


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device multiplies it faster than float32; no change elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device))


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are faster than float32: CPUs with AMX or AVX512-bf16, CUDA from Ampere."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def untrained_model(
    settings: NetworkSettings | None = None,
    *,
    points: int = 1024,
    image_size: int = 112,
    seed: int = 0,
    clouds: np.ndarray | None = None,
    views: np.ndarray | None = None,
) -> Model:
    """The same networks with random weights, BatchNorm statistics from some clouds and views.

    Clouds (N, P, 3) float32, views (N, V, S, S) uint8; 256 at most are used. Without such statistics the
    features would say less than they could: this is the honest floor for what training adds.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(settings, points=points, image_size=image_size)
    for network, data in ((model.points, clouds), (model.images, views)):
        if data is not None and len(data):
            gather_statistics(network, _some(data, points, seed))
    model.eval()
    model.card = {"name": "untrained", "seed": seed}
    return model


def _some(data: np.ndarray, points: int, seed: int) -> Iterator[Tensor]:
    """Batches of at most 256 clouds or of two views each; a batch of one has no statistics."""
    chosen = np.arange(len(data))
    if len(data) > 256:  # at random: the first ones by name would be of a few kinds
        chosen = np.random.default_rng(seed).permutation(len(data))[:256]
    for some in np.array_split(chosen, -(-len(chosen) // 32)):
        block = np.asarray(data[np.sort(some)])
        if len(block) > 1:
            flat = block[:, :points] if block.ndim == 3 else block[:, :2].reshape(-1, *block.shape[2:])
            yield torch.from_numpy(np.ascontiguousarray(flat))


def gather_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Gather BatchNorm's statistics anew, the plain mean over batches; weights stay as they are."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta, was_training = [norm.momentum for norm in norms], network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the plain mean over batches
    network.train()
    try:
        with torch.no_grad():
            for batch in batches:
                network(batch)
    finally:
        network.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def choose_device(name: str = "auto") -> torch.device:
    """auto (CUDA where there is one), cpu, cuda, cuda:N or mps. Raises where that device is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"unknown device '{name}'; use auto, cpu, cuda, cuda:1 or mps")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise CrosshapeError(
                f"device '{name}' is not there: {count} CUDA devices found. Use --device cpu."
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise CrosshapeError(f"device '{name}' is not there: no Apple GPU found. Use --device cpu.")
    return device


def shipped() -> list[str]:
    """The names of the models that come with crosshape."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{WEIGHTS}"))


def load_model(run: str | Path, device: str = "auto") -> Model:
    """The model of a run folder, or one that comes with crosshape, by its name.

    Raises CrosshapeError where there is none, or where its weights do not fit its card or are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(run)
    if len(folder.parts) == 1 and not (folder / WEIGHTS).exists() and (SHIPPED / folder / WEIGHTS).is_file():
        folder = SHIPPED / folder.name  # also where data lies in a folder of that name
    if not (folder / WEIGHTS).is_file() or not (folder / CARD).is_file():
        known = f" Models that come with crosshape: {', '.join(shipped())}." if shipped() else ""
        what = "is not there" if not folder.exists() else f"holds no model ({WEIGHTS} and {CARD})"
        raise CrosshapeError(f"{run} {what}. Give a run folder made by `crosshape train`.{known}")
    model = _from_card(folder / CARD)
    try:
        state = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise CrosshapeError(f"{folder / WEIGHTS} cannot be read: {error}. Copy or train it again.") from None
    _check(state, model.state_dict(), folder / WEIGHTS)
    model.load_state_dict(state)
    model.source = folder.name if folder.parent == SHIPPED else str(folder.absolute())
    return model.to(choose_device(device)).eval()


def _without_later(network: dict[str, Any]) -> dict[str, Any]:
    """Settings that came later are left out at their default: models from before keep their fingerprint."""
    return {name: value for name, value in network.items() if (name, value) != ("graph", "features")}


def check_sizes(settings: NetworkSettings, where: str) -> None:
    """Refuse networks that cannot be, or that no machine can hold. Raises UsageError for "settings" somebody gave,
    CrosshapeError for those of a file.
    """
    kind = UsageError if where == "settings" else CrosshapeError
    most = {"k": 256, "edge_widths": 4096, "point_width": 16384, "image_width": 1024, "hidden": 16384}
    for name, limit in most.items():
        value = getattr(settings, name)
        values = value if isinstance(value, tuple) else (value,)
        if not 1 <= len(values) <= 16 or not all(type(v) is int and 1 <= v <= limit for v in values):
            raise kind(f"{where}: '{name}' is {value}; it must be between 1 and {limit}.")
    if settings.graph not in GRAPHS:
        raise kind(f"{where}: 'graph' is {settings.graph!r}; it must be {' or '.join(GRAPHS)}.")


def _from_card(path: Path) -> Model:
    """An untrained model of the sizes on the card; refuses sizes that no model of this program has."""
    try:
        card = parse_json(path.read_bytes())
        sizes = card.pop("model")
        settings = changed(NetworkSettings(), sizes["network"], str(path))
        points, image_size = int(sizes["points"]), int(sizes["image_size"])
        comparable = bool(sizes["comparable"])
    except UsageError as error:
        raise CrosshapeError(f"{error}. The card is damaged: copy or train the model again.") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise CrosshapeError(f"{path} is not the card of a model. Copy or train it again.") from None
    check_sizes(settings, str(path))
    for name, value, most in (("points", points, 1 << 20), ("image_size", image_size, 4096)):
        if not 1 <= value <= most:
            raise CrosshapeError(f"{path}: '{name}' is {value}; it must be between 1 and {most}.")
    model = Model(settings, points=points, image_size=image_size)
    model.comparable = comparable
    card.pop("fingerprint", None)
    model.card = card
    return model


def _check(state: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Refuse weights that are missing, strange, of other shapes or not finite."""
    for name in expected.keys() - state.keys():
        raise CrosshapeError(f"{path} lacks the weights '{name}'. Copy or train it again.")
    for name in state.keys() - expected.keys():
        raise CrosshapeError(f"{path} holds unknown weights '{name}'. Copy or train it again.")
    for name, value in state.items():
        if value.shape != expected[name].shape:
            raise CrosshapeError(
                f"{path}: '{name}' is of shape {tuple(value.shape)}, "
                f"its card says {tuple(expected[name].shape)}."
            )
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise CrosshapeError(f"{path}: '{name}' holds numbers that are not finite. Train it again.")

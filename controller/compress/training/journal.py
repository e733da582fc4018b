"""What long work has made so far, kept in a folder: who begins anew after an interruption goes on.

Networks are stored as torch pickles them, by a key that says how each was made. The folder carries
a fingerprint of the original, so that what was made of another one is never taken up.
"""

import hashlib
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.compress.sources import write_all

if TYPE_CHECKING:
    import torch


class Journal:
    """Keeps what is made, as it is made.

    Args:
        folder: where to; None: nothing is kept.
        original: the network that all is made of.
        settings: whatever else decides what is made; another text, another journal.
    """

    def __init__(
        self, folder: Path | None, original: "torch.nn.Module", settings: str = ""
    ) -> None:
        self._folder = folder
        if folder is not None:
            self._work = folder / "work" / fingerprint(original, settings)

    def get(self, key: str) -> Any:  # noqa: ANN401 - whatever was put
        """Return what was put under a key, or None; what cannot be read counts as not there."""
        import torch  # noqa: PLC0415

        if self._folder is None:
            return None
        path = self._work / f"{key}.pt"
        try:
            # Our own file beside the person's own module, which runs as code too.
            return torch.load(path, weights_only=False) if path.is_file() else None
        except (OSError, RuntimeError, EOFError, AttributeError, pickle.UnpicklingError):
            return None

    def put(self, key: str, made: object) -> None:
        """Keep something under a key.

        Raises:
            CompressError: the folder cannot be written.
        """
        import io  # noqa: PLC0415

        import torch  # noqa: PLC0415

        if self._folder is None:
            return
        buffer = io.BytesIO()
        torch.save(made, buffer)
        write_all({self._work / f"{key}.pt": buffer.getvalue()})

    def put_file(self, name: str, content: bytes) -> None:
        """Write a finished `.tflite` file into the folder itself.

        Raises:
            CompressError: the folder cannot be written.
        """
        if self._folder is not None:
            write_all({self._folder / f"{name}.tflite": content})


def fingerprint(network: "torch.nn.Module", settings: str) -> str:
    """Return a name for a network's weights and the settings of a run, 12 hexadecimal digits."""
    digest = hashlib.sha256(settings.encode())
    for name, tensor in network.state_dict().items():
        digest.update(os.fsencode(name) + str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]

"""Where models are found: a path, a shipped name, or a repository of the Hugging Face hub."""

import os
import re
from pathlib import Path

from spladelet.bundle import (
    DESCRIPTION,
    MAX_BYTES,
    MAX_DESCRIPTION_BYTES,
    Bundle,
    Description,
    inside,
)
from spladelet.errors import (
    BundleNotFoundError,
    InputError,
    MissingDependencyError,
    SpladeletError,
)

DEFAULT = "default"


def find_bundle(model: str | os.PathLike[str] | None) -> Bundle:
    """Open the bundle that a user means.

    Args:
        model: A folder or .zip; "default" or None for the model that comes with the package; or a
            hub id, "owner/name", which needs the extra `hub` and downloads once.

    Raises:
        BundleNotFoundError: Nothing is there; the message says where was looked.
        BundleError: What is there cannot be used.
        MissingDependencyError: A hub id, and the extra `hub` is not installed.
    """
    if model is None or model == DEFAULT:
        return Bundle.open(_default_folder())
    if not isinstance(model, (str, os.PathLike)) or not os.fspath(model):
        raise InputError(f"model is {model!r}; expected a path, a hub id or None.")
    if _exists(model):
        return Bundle.open(model)
    name = str(model)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        return _from_hub(name)
    raise BundleNotFoundError(
        f"there is no bundle at {name!r}. Give a folder or .zip, a hub id (owner/name), or "
        "nothing for the default model."
    )


def _exists(path: str | os.PathLike[str]) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long for a path
        return False


def _default_folder() -> Path:
    here = Path(__file__).parent
    installed = here / "models" / DEFAULT
    checkout = here.parents[1] / "models" / DEFAULT  # an editable install: beside runtime/
    for folder in (installed, checkout):
        if folder.is_dir():
            return folder
    raise BundleNotFoundError(
        f"the default model is missing from this installation (looked in {installed}). Install "
        "spladelet again, or pass a bundle."
    )


def _from_hub(name: str) -> Bundle:
    try:
        from huggingface_hub import errors as hub_errors
    except ImportError as error:
        raise MissingDependencyError(
            f"{name!r} is no folder here; loading it from the hub needs huggingface_hub. Install "
            "it with `pip install 'spladelet[hub]'`."
        ) from error
    try:
        return _download(name)
    except hub_errors.LocalEntryNotFoundError as error:
        raise BundleNotFoundError(
            f"{name!r} is no folder here, and the hub cannot be reached: {error}"
        ) from error
    except hub_errors.EntryNotFoundError as error:
        raise BundleNotFoundError(
            f"{name} on the hub is no bundle: {error}. If it is a SPLADE checkpoint, export it "
            f"with `spladelet-export {name} -o FOLDER`."
        ) from error
    except SpladeletError:
        raise
    except Exception as error:  # bad names, and whatever the client's HTTP library raises
        raise BundleNotFoundError(
            f"{name!r} is no folder here, and cannot be had from the hub: {error}"
        ) from error


def _download(name: str) -> Bundle:
    """Fetch what the description lists, all of one commit, and check what is new by its hash."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    head = Path(hf_hub_download(name, DESCRIPTION))
    _check_size(head.stat().st_size, MAX_DESCRIPTION_BYTES, name)
    description = Description.from_json(head.read_bytes(), f"{name}/{DESCRIPTION}")
    _check_size(sum(entry.size for entry in description.files.values()), MAX_BYTES, name)
    folder, revision = head.parent, head.parent.name
    cache = folder.parents[1]  # the files in the folder are links to blobs in there
    fresh = False
    for file in description.files:
        inside(folder, file, cache)
        fresh = fresh or not isinstance(try_to_load_from_cache(name, file, revision=revision), str)
        hf_hub_download(name, file, revision=revision)
    bundle = Bundle.open(folder, root=cache)
    if fresh:
        try:
            bundle.verify()
        except BaseException:  # an interrupt too
            for file in description.files:  # or the next load would take them as checked
                (folder / file).unlink(missing_ok=True)
            raise
    return bundle


def _check_size(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise BundleNotFoundError(
            f"{name} on the hub lists {size} bytes; at most {limit} are downloaded. Download it "
            "yourself and pass the folder."
        )

"""Where models are found: a path, a shipped name, or a repository of the Hugging Face hub."""

import errno
import os
import re
from difflib import get_close_matches
from pathlib import Path

from spladelet import extras
from spladelet.bundle.archive import MAX_BYTES
from spladelet.bundle.bundle_files import inside, read_file, refusals
from spladelet.bundle.description import DESCRIPTION, MAX_DESCRIPTION_BYTES, Description
from spladelet.bundle.folder import Bundle
from spladelet.errors import BundleNotFoundError, InputError, SpladeletError
from spladelet.forks import unforked

DEFAULT = "default"

# Seconds to wait for the hub's first answer. Its client would wait ten, and ask five times more.
_PATIENCE = 5.0
_MOST_NAMES = 10_000  # of a folder, searched for what was meant


def find_bundle(model: str | os.PathLike[str] | None, revision: str | None = None) -> Bundle:
    """Open the bundle that a user means.

    Args:
        model: A folder or .zip; "default" or None for the model that comes with the package; or a
            hub id, "owner/name", which needs the extra `hub` and downloads once.
        revision: A branch, tag or commit of the hub's repository; None means its main branch.

    Raises:
        InputError: `model` can be none, or a revision is given for a path.
        BundleNotFoundError: Nothing is there; the message says where was looked.
        BundleError: What is there cannot be used.
        MissingDependencyError: A hub id, and the extra `hub` is not installed.
    """
    if revision is not None and (not isinstance(revision, str) or not revision):
        raise InputError(f"revision is {revision!r}; expected a branch, tag or commit, or None.")
    path = None if model is None or model == DEFAULT else _path(model)
    if path is None or _exists(path):
        if revision is not None:
            raise InputError(
                f"revision is {revision!r}, but {model!r} is no hub id, and only the hub has "
                "revisions. Leave it out, or give owner/name."
            )
        return Bundle.open(_default_folder() if path is None else path)
    name = str(model)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        return _from_hub(name, revision)
    raise BundleNotFoundError(
        f"there is no bundle at {name!r:.300}.{_meant(path)} Give a folder or .zip, a hub id "
        "(owner/name), or nothing for the default model."
    )


def _path(model: str | os.PathLike[str]) -> Path:
    named = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
    if not isinstance(named, str) or not named or "\0" in named:
        raise InputError(f"model is {model!r:.200}; expected a path, a hub id or None.")
    return Path(named)


def _exists(path: Path) -> bool:
    """Say whether something is there.

    Raises:
        BundleFileError: The system refuses to say.
    """
    with refusals(path):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError, UnicodeEncodeError):
            return False
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return False
    return True


def _meant(path: Path) -> str:
    """Return a sentence that names what is there and called almost like it, or nothing."""
    try:
        with os.scandir(path.parent) as found:
            names = [item.name for item, _ in zip(found, range(_MOST_NAMES), strict=False)]
    except (OSError, ValueError):
        return ""
    close = get_close_matches(path.name, names, 1)
    return f" Did you mean {str(path.with_name(close[0]))!r}?" if close else ""


def _default_folder() -> Path:
    here = Path(__file__).parents[1]  # the package
    installed = here / "models" / DEFAULT
    checkout = here.parents[1] / "models" / DEFAULT  # an editable install: beside runtime/
    for folder in (installed, checkout):
        if folder.is_dir():
            return folder
    raise BundleNotFoundError(
        f"the default model is missing from this installation (looked in {installed}). Install "
        "spladelet again, or pass a bundle."
    )


def _from_hub(name: str, revision: str | None) -> Bundle:
    purpose = f"{name!r} is no folder here.{_meant(Path(name))} Loading it from the hub"
    hub_errors = extras.load("huggingface_hub.errors", "hub", purpose)
    try:
        return _download(name, revision)
    except hub_errors.LocalEntryNotFoundError as error:
        raise BundleNotFoundError(
            f"{name!r} is no folder here and not in the hub's cache, and the hub cannot be "
            f"reached: {_root_of(error)}.{_meant(Path(name))} Check the name and the connection."
        ) from error
    except hub_errors.EntryNotFoundError as error:
        raise BundleNotFoundError(
            f"{name} on the hub is no bundle: {error}. If it is a SPLADE checkpoint, export it "
            f"with `spladelet-export {name} -o FOLDER`."
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise BundleNotFoundError(f"{name} on the hub has no revision {revision!r}.") from error
    except SpladeletError:
        raise
    except Exception as error:  # bad names, and whatever the client's HTTP library raises
        raise BundleNotFoundError(
            f"{name!r} is no folder here, and cannot be had from the hub: "
            f"{error}{_meant(Path(name))}"
        ) from error


def _download(name: str, revision: str | None) -> Bundle:
    """Fetch what the description lists, all of one commit, and check what is new by its hash."""
    with unforked():
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if isinstance(kept := try_to_load_from_cache(name, DESCRIPTION, revision=revision), str) and (
        revision == Path(kept).parent.name  # a commit never changes
    ):
        head, offline = Path(kept), False
    else:
        head, offline = _description(name, revision)
    description = Description.from_json(
        read_file(head, MAX_DESCRIPTION_BYTES), f"{name}/{DESCRIPTION}"
    )
    _check_size(sum(entry.size for entry in description.all_files.values()), MAX_BYTES, name)
    folder, commit = head.parent, head.parent.name
    fresh = False
    for file in description.all_files:
        inside(folder, file)
        is_there = isinstance(try_to_load_from_cache(name, file, revision=commit), str)
        if offline and not is_there and file in description.auxiliary:
            continue  # an older version left it out, and no vector depends on it
        fresh = fresh or not is_there
        hf_hub_download(name, file, revision=commit, local_files_only=offline)
    bundle = Bundle.open(folder)
    if fresh:
        try:
            bundle.verify()
        except BaseException:  # an interrupt too
            for file in description.all_files:  # or the next load would take them as checked
                (folder / file).unlink(missing_ok=True)
            raise
    return bundle


def _description(name: str, revision: str | None) -> tuple[Path, bool]:
    """Return the description's place in the cache, and whether the hub does not answer.

    Asks the hub once, and does without it at once where it does not answer.
    """
    with unforked():
        from huggingface_hub import hf_hub_download, hf_hub_url

    try:
        _ask(hf_hub_url(name, DESCRIPTION, revision=revision))
    except ConnectionError as unreachable:
        try:
            kept = hf_hub_download(name, DESCRIPTION, revision=revision, local_files_only=True)
        except Exception as error:
            raise error from unreachable
        return Path(kept), True
    return Path(hf_hub_download(name, DESCRIPTION, revision=revision)), False


def _ask(url: str) -> None:
    """Raise ConnectionError unless the hub answers, whatever it says."""
    with unforked():
        from huggingface_hub.utils import get_session

    try:
        patience = float(os.environ.get("HF_HUB_ETAG_TIMEOUT", _PATIENCE))
        get_session().head(url, timeout=patience)
    except Exception as error:  # of the client's HTTP library, which changes with its version
        raise ConnectionError(str(error)) from error


def _root_of(error: BaseException) -> str:
    """Return what lies at the root of an error, in a line."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{error}".partition("\n")[0][:300] or type(error).__name__


def _check_size(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise BundleNotFoundError(
            f"{name} on the hub lists {size} bytes; at most {limit} are downloaded. Download it "
            "yourself and pass the folder."
        )

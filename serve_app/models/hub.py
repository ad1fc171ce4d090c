"""Asks the model hub about a model before it is loaded, and explains a failed download in one line.

The libraries that load models try for a minute to reach the hub, and then print pages of text. The functions here
answer within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve_app.errors import CheckpointError

TIMEOUT_S = 5.0
"""How long one question to the hub may take."""

WHERE_TO_SET = (
    "HF_TOKEN must be set where Ray is started: before `ray start`, on every node, or for this command where it starts "
    "Ray itself"
)
GATED = (
    "access was refused: the weights are gated. Accept the licence on the model's hub page, then set HF_TOKEN "
    f"to a token of that account, or give a local folder as model_name; {WHERE_TO_SET}"
)
UNKNOWN = (
    "the hub has no such model, or it is a private one; check the name, set HF_TOKEN if it is private, or give a local "
    f"folder; {WHERE_TO_SET}"
)
UNREACHABLE = "the hub cannot be reached and the model is not in the local cache; give a local folder as model_name"
OFFLINE = (
    "the hub cannot be reached and the model is not in the local cache: HF_HUB_OFFLINE forbids asking the hub; unset "
    "it, download the model first, or give a local folder as model_name"
)
NO_NAME = "is neither a local folder nor a hub name, such as facebook/sam3"
_REFUSED = {
    401: (
        "the hub refuses the token in HF_TOKEN: it is wrong or has expired; set a valid one, or unset it; "
        f"{WHERE_TO_SET}"
    ),
    403: (
        "the hub refuses access with this HF_TOKEN (status 403): the token may lack the permission to read gated "
        f"repositories; see its settings on the hub, or give a local folder as model_name; {WHERE_TO_SET}"
    ),
    429: f"the hub refuses further downloads for now (status 429); wait, or set HF_TOKEN; {WHERE_TO_SET}",
}


def said_by_hub(errors: Sequence[BaseException]) -> str | None:
    """Explain an error of huggingface_hub, and say what to do.

    Args:
        errors: an exception and its causes.

    Returns:
        One line; None if none of the exceptions comes from the hub.
    """
    from huggingface_hub import errors as of_hub

    def have(*kinds: type[BaseException]) -> bool:
        return any(isinstance(error, kinds) for error in errors)

    if have(of_hub.GatedRepoError):
        return GATED
    if have(of_hub.RepositoryNotFoundError):
        return UNKNOWN
    if have(of_hub.HFValidationError):
        return NO_NAME
    if have(of_hub.RemoteEntryNotFoundError):
        return "the checkpoint is incomplete: the hub lacks a file of this model"
    if have(of_hub.OfflineModeIsEnabled):
        return OFFLINE
    answers = [error.response.status_code for error in errors if isinstance(error, of_hub.HfHubHTTPError)]
    if answers and answers[0] < 500:
        refused = f"the hub refuses the download (status {answers[0]}); give a local folder as model_name"
        return _REFUSED.get(answers[0], refused)
    return UNREACHABLE if answers or have(of_hub.LocalEntryNotFoundError) else None


def check_name(model_name: str) -> None:
    """Check that a hub name can be loaded, from the local cache or from the hub.

    A gated model passes, because the process that loads it may have a token. That process reports a refusal.

    Args:
        model_name: a hub name, not a local folder.

    Raises:
        CheckpointError: the name is not valid, the hub has no such model, or the hub cannot be reached and the model
            is not in the local cache.
    """
    from huggingface_hub import HfApi, errors, try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(model_name, "config.json"), str):
            return
        HfApi().model_info(model_name, timeout=TIMEOUT_S)
        return
    except (errors.HFValidationError, errors.RepositoryNotFoundError, errors.OfflineModeIsEnabled) as error:
        reason = said_by_hub([error])
        if reason == GATED:
            return
    except errors.HfHubHTTPError:
        return  # the hub answers, but refuses for now: loading tries again
    except Exception:  # huggingface_hub lets exceptions of its HTTP library through, which differ by version
        reason = UNREACHABLE
    raise CheckpointError(f"model {model_name}: {reason}")


@dataclass(frozen=True)
class HubAnswer:
    """The hub's answer about a model that is not on this machine.

    Attributes:
        fault: why the model cannot be downloaded, and what to do; None if it can.
        reached: whether the hub answered.
        download_bytes: bytes that loading downloads; None if the hub does not say.
    """

    fault: str | None
    reached: bool = True
    download_bytes: int | None = None


def ask(model_name: str) -> HubAnswer:
    """Ask the hub whether a model can be downloaded with the current token, and how large it is. Raises nothing."""
    from huggingface_hub import HfApi, errors

    api = HfApi()
    try:
        info = api.model_info(model_name, files_metadata=True, timeout=TIMEOUT_S)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        if info.gated:
            api.auth_check(model_name)
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.OfflineModeIsEnabled) as error:
        fault = said_by_hub([error])
        return HubAnswer(fault, reached=fault not in {UNREACHABLE, OFFLINE})
    except Exception:  # as above
        return HubAnswer(UNREACHABLE, reached=False)
    return HubAnswer(None, download_bytes=sum(sizes[name] for name in loaded_files(sizes)) or None)


def loaded_files(names: Sequence[str] | dict[str, int]) -> list[str]:
    """Choose the files that loading downloads from a repository: top-level safetensors and small text files.

    >>> loaded_files(["config.json", "model.safetensors", "sam3.pt", "onnx/model.onnx"])
    ['config.json', 'model.safetensors']
    """
    small = {".json", ".txt", ".jinja", ".model"}
    return [name for name in names if "/" not in name and Path(name).suffix in {".safetensors", *small}]


def has_token() -> bool:
    """Tell whether there is a hub token, in HF_TOKEN or saved by `hf auth login`."""
    from huggingface_hub import get_token

    return get_token() is not None


def cached_folder(model_name: str) -> Path | None:
    """Return the folder in the local cache that holds a model's config.json; None if there is none."""
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        found = try_to_load_from_cache(model_name, "config.json")
    except errors.HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def cache_place() -> Path:
    """Return the folder that models are downloaded to. It may not exist yet."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline() -> bool:
    """Tell whether HF_HUB_OFFLINE forbids calls to the hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)

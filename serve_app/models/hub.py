"""Asks the model hub about a name, before models are loaded: the libraries that load them try for a minute."""

from __future__ import annotations

from serve_app.errors import CheckpointError

TIMEOUT_S = 5.0


def check_name(model_name: str) -> None:
    """Find out whether a hub name can be loaded: from the local cache, or from the hub.

    A gated model passes: whoever loads it knows the token, and says what to do.

    Args:
        model_name: of a model that is no local folder.

    Raises:
        CheckpointError: the name is not valid, the hub knows no such model, or the hub cannot be reached and the model
            is not in the local cache.
    """
    from huggingface_hub import HfApi, errors, try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(model_name, "config.json"), str):
            return
        HfApi().model_info(model_name, timeout=TIMEOUT_S)
    except errors.HFValidationError:
        reason = "is neither a local folder nor a name of the hub, such as facebook/sam3"
    except errors.GatedRepoError:
        return
    except errors.RepositoryNotFoundError:
        reason = "the hub knows no such model; check the name, set HF_TOKEN if it is private, or give a local folder"
    except errors.HfHubHTTPError:
        return  # the hub is there, and busy: loading tries again
    except Exception:  # each version of the hub's package lets others of its HTTP library through
        reason = "the hub cannot be reached and the model is not in the local cache; give a local folder as model_name"
    else:
        return
    raise CheckpointError(f"model {model_name}: {reason}")

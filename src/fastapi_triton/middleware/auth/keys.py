# SPDX-License-Identifier: Apache-2.0
"""API keys: their hashes, and the lookup of a request's key.

A key is 256 random bits, so nobody can try them all, and its SHA-256 is enough: slow password hashes protect what
people can remember, and would cost every request 100 ms and more. Nothing here stores, logs or returns a key itself.
"""

import hashlib
import hmac
import secrets
import time
import tomllib
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastapi_triton.core.context import Caller
from fastapi_triton.middleware.auth.rate_limit import TokenBucket, default_burst
from fastapi_triton.middleware.auth.scopes import Scope

# Tells people, and programs that look for leaked secrets, what it is.
PREFIX = "ftk_"
_NUM_RANDOM_BYTES = 32
# Finds a key by a part of its hash; the rest is compared in constant time.
_SELECTOR_BYTES = 8
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class KeyFileError(ValueError):
    """The file cannot be used; the text is for a person, and holds nothing of the file's secrets."""


class Limits(BaseModel):
    """The limits of one client: requests for work per minute and at once, and requests in flight."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    requests_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    burst: int | None = Field(default=None, ge=1)
    max_in_flight: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _burst_is_of_a_rate(self) -> Self:
        if self.burst is not None and self.requests_per_minute is None:
            raise ValueError("burst means nothing without requests_per_minute")
        return self

    def bucket(self) -> TokenBucket | None:
        """A full token bucket; None if the rate is not limited."""
        if self.requests_per_minute is None:
            return None
        return TokenBucket(self.requests_per_minute, self.burst or default_burst(self.requests_per_minute))


class KeyEntry(Limits):
    """A key in the file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: Annotated[tuple[Scope, ...], Field(strict=False)] = ("infer",)
    expires: AwareDatetime | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: dict[Annotated[str, Field(pattern=NAME_PATTERN)], KeyEntry] = Field(default_factory=dict)


class Key:
    """A known key: its client, and the token bucket of its rate limit."""

    __slots__ = ("bucket", "caller", "digest", "entry", "expires")

    def __init__(self, name: str, entry: KeyEntry) -> None:
        self.entry = entry
        self.digest = bytes.fromhex(entry.sha256)
        self.caller = Caller(f"key:{name}", frozenset(entry.scopes), entry.max_in_flight)
        self.bucket = entry.bucket()
        self.expires = entry.expires.timestamp() if entry.expires else None

    @property
    def has_expired(self) -> bool:
        """Whether it is no longer accepted."""
        return self.expires is not None and time.time() >= self.expires


class Keys:
    """All known keys. Immutable: a changed file makes a new object."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_selector: dict[bytes, Key] = {}
        self._by_name: dict[str, Key] = {}
        for key in keys:
            other = self._by_selector.setdefault(key.digest[:_SELECTOR_BYTES], key)
            if other is not key:
                raise KeyFileError(f"{other.caller.name} and {key.caller.name} are the same key")
            self._by_name[key.caller.name] = key

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, secret: bytes) -> Key | None:
        """The key with this secret, if there is one.

        What is compared are hashes, whose bytes nobody who lacks the key can choose, and all but the few that select
        in constant time: the time it takes reveals nothing about a key.
        """
        digest = hashlib.sha256(secret).digest()
        key = self._by_selector.get(digest[:_SELECTOR_BYTES])
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def continuing(self, before: "Keys") -> Self:
        """These keys; those whose entry did not change keep their token bucket."""
        for name, key in self._by_name.items():
            earlier = before._by_name.get(name)
            if earlier is not None and earlier.entry == key.entry:
                key.bucket = earlier.bucket
        return self


def parse(text: str) -> Keys:
    """A key file's text.

    Raises:
        KeyFileError: it cannot be used.
    """
    return Keys(Key(name, entry) for name, entry in entries(text).items())


def entries(text: str) -> dict[str, KeyEntry]:
    """What a key file says, by name.

    Raises:
        KeyFileError: it cannot be used.
    """
    try:
        return _File.model_validate(tomllib.loads(text)).keys
    except RecursionError:
        raise KeyFileError("its TOML is nested too deeply") from None
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        problems = (f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in details)
        raise KeyFileError("; ".join(problems)) from None
    except ValueError as error:  # TOMLDecodeError, and numbers with more digits than Python converts
        raise KeyFileError(f"it is not TOML: {error}") from None


def new_secret() -> str:
    """A new random key."""
    return PREFIX + secrets.token_urlsafe(_NUM_RANDOM_BYTES)


def digest(secret: str) -> str:
    """What a key file keeps of a key: its SHA-256, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()

# SPDX-License-Identifier: Apache-2.0
"""API keys: their hashes, and the lookup of a request's key.

A key has 256 random bits, so its SHA-256 is safe: nobody can try all keys. Slow password hashes protect passwords that
people can remember, and would cost every request 100 ms or more. Nothing here stores, logs or returns a key itself.
"""

import hashlib
import hmac
import secrets
import time
import tomllib
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastapi_triton.core.context import Caller, Priority
from fastapi_triton.middleware.auth.rate_limit import TokenBucket, default_burst
from fastapi_triton.middleware.auth.scopes import Scope

# Lets people, and programs that search for leaked secrets, recognize a key.
PREFIX = "ftk_"
_NUM_RANDOM_BYTES = 32
# A key is found by these first bytes of its hash. Then the whole hash is compared in constant time.
_SELECTOR_BYTES = 8
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class KeyFileError(ValueError):
    """The key file cannot be used. The message is for the user, and contains no secrets."""


class Limits(BaseModel):
    """The limits of one caller: requests per minute that start work, their burst, and requests in flight."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    requests_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    burst: int | None = Field(default=None, ge=1)
    max_in_flight: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _burst_is_of_a_rate(self) -> Self:
        if self.burst is not None and self.requests_per_minute is None:
            raise ValueError("burst has no effect without requests_per_minute; set both")
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
    priority: Priority = "interactive"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: dict[Annotated[str, Field(pattern=NAME_PATTERN)], KeyEntry] = Field(default_factory=dict)


class Key:
    """A known key: its caller, and the token bucket of its rate limit."""

    __slots__ = ("bucket", "caller", "digest", "entry", "expires")

    def __init__(self, name: str, entry: KeyEntry) -> None:
        self.entry = entry
        self.digest = bytes.fromhex(entry.sha256)
        self.caller = Caller(f"key:{name}", frozenset(entry.scopes), entry.max_in_flight, entry.priority)
        self.bucket = entry.bucket()
        self.expires = entry.expires.timestamp() if entry.expires else None

    @property
    def has_expired(self) -> bool:
        """Whether the key is no longer accepted."""
        return self.expires is not None and time.time() >= self.expires


class Keys:
    """All known keys. Immutable: a change of the file makes a new object."""

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
        """The key with this secret; None if it is unknown.

        The time that this takes reveals nothing about a key: only hashes are compared, in constant time except for the
        selector, and nobody without the key can choose the bytes of a hash.
        """
        digest = hashlib.sha256(secret).digest()
        key = self._by_selector.get(digest[:_SELECTOR_BYTES])
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def with_buckets_of(self, previous: "Keys") -> Self:
        """These keys, with the token buckets of the previous ones, for entries that did not change."""
        for name, key in self._by_name.items():
            before = previous._by_name.get(name)
            if before is not None and before.entry == key.entry:
                key.bucket = before.bucket
        return self


def parse(text: str) -> Keys:
    """The keys in the text of a key file.

    Raises:
        KeyFileError: the text is invalid.
    """
    return Keys(Key(name, entry) for name, entry in entries(text).items())


def entries(text: str) -> dict[str, KeyEntry]:
    """The entries in the text of a key file, by name.

    Raises:
        KeyFileError: the text is invalid.
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
    """The SHA-256 of a key in hexadecimal, as a key file holds it."""
    return hashlib.sha256(secret.encode()).hexdigest()

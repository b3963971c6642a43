# SPDX-License-Identifier: Apache-2.0
"""A scrape of `/metrics` as numbers by name and labels."""

from dataclasses import dataclass

import httpx2
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one scrape."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def __getitem__(self, name: str) -> float:
        """The sum over all series of this name."""
        return self.of(name)

    def of(self, name: str, **labels: str) -> float:
        """The sum over the series with this name and these labels."""
        wanted = labels.items()
        return sum(value for (each, own), value in self.samples.items() if each == name and wanted <= dict(own).items())

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}

    def values(self, name: str, label: str) -> set[str]:
        """The values of this label in the series of this name."""
        return {dict(labels).get(label, "") for each, labels in self.samples if each == name}


def parsed(text: str) -> Scrape:
    return Scrape(
        {
            (_name(sample.name, text), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


def _name(name: str, text: str) -> str:
    """The name in the scrape: the parser adds `_total` to every counter, which Triton's names do not have."""
    return name if name in text else name.removesuffix("_total")


async def scrape(client: httpx2.AsyncClient) -> Scrape:
    response = await client.get("/metrics")
    assert response.status_code == 200
    return parsed(response.text)

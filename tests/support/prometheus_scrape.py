# SPDX-License-Identifier: Apache-2.0
"""What Prometheus would read: a scrape as numbers by name and labels."""

from dataclasses import dataclass

import httpx2
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one text."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def __getitem__(self, name: str) -> float:
        """The sum over all series of that name."""
        return self.of(name)

    def of(self, name: str, **labels: str) -> float:
        """The sum over the series of that name which have these labels."""
        wanted = labels.items()
        return sum(value for (each, own), value in self.samples.items() if each == name and wanted <= dict(own).items())

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}

    def values(self, name: str, label: str) -> set[str]:
        """What this label says on the series of that name."""
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
    """As it was written: the parser gives every counter the end that Triton's do not have."""
    return name if name in text else name.removesuffix("_total")


async def scrape(client: httpx2.AsyncClient) -> Scrape:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return parsed(answer.text)

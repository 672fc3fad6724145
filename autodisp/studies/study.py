"""The interface of a study."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol as Interface

from autodisp.report.study_page import Findings
from autodisp.studies.graph import Run
from autodisp.studies.protocol import Protocol
from autodisp.studies.results import Results


class Study(Interface):
    """A study: the runs that belong together, and what they show."""

    @abstractmethod
    def runs(self, protocol: Protocol) -> list[Run]:
        """Returns its runs; those that they need may be left out."""

    @abstractmethod
    def findings(self, results: Results) -> Findings:
        """Returns what the runs show that are complete so far."""

    def files(self, results: Results) -> Mapping[str, str]:
        """Returns the text of the files that it leaves in its folder, by name; by default none."""
        return {}

"""The vetted programs, by name.

Each new network vets them at its start. Volunteers run a vetted program without asking their
operator, and a ruling on one of its segments can slash stake.
"""

from workloads.core.program import Program
from workloads.programs.digits import Digits
from workloads.programs.fashion import Fashion
from workloads.programs.gpt import Pretraining
from workloads.programs.sentiment import Sentiment
from workloads.programs.tabular import Tabular

PROGRAMS: dict[str, type[Program]] = {
    "digits": Digits,
    "fashion": Fashion,
    "gpt": Pretraining,
    "sentiment": Sentiment,
    "tabular": Tabular,
}

"""The classical methods of an evaluation: none of them is trained."""

from __future__ import annotations

from asteroid_ucr.baselines.ft2d import ft2d_row
from asteroid_ucr.baselines.hpss import hpss_row
from asteroid_ucr.baselines.nmf import nmf_row
from asteroid_ucr.baselines.repet import repet_sim_row
from asteroid_ucr.baselines.rpca import rpca_row
from asteroid_ucr.evaluation.rows import Row


def classical_rows() -> list[Row]:
    """HPSS, REPET-SIM, FT2D, robust PCA and NMF, in the order of the table."""
    return [hpss_row(), repet_sim_row(), ft2d_row(), rpca_row(), nmf_row()]

# SPDX-License-Identifier: Apache-2.0
"""Quotas. This release limits nothing: every quota is -1, Karbor's word for no limit."""

from __future__ import annotations

from seawall.api.schemas.common import AnswerModel

UNLIMITED = -1


class QuotaView(AnswerModel):
    id: str
    plans: int = UNLIMITED
    checkpoints: int = UNLIMITED


class QuotaAnswer(AnswerModel):
    quota: QuotaView


class QuotaClassAnswer(AnswerModel):
    quota_class: QuotaView

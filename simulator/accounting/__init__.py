"""The same numbers as an estimate's, part by part: memory, messages and work of each stage."""

from simulator.accounting.memory import (
    Component,
    LayerCache,
    MemoryAccount,
    memory_account,
    memory_components,
    memory_of,
)
from simulator.accounting.traffic import Message, TrafficAccount, traffic_account
from simulator.accounting.work import Convention, Work, WorkAccount, work_account

__all__ = [
    "Component",
    "Convention",
    "LayerCache",
    "MemoryAccount",
    "Message",
    "TrafficAccount",
    "Work",
    "WorkAccount",
    "memory_account",
    "memory_components",
    "memory_of",
    "traffic_account",
    "work_account",
]

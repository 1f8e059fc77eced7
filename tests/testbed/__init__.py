"""Starts the real parts (registry, containerd, pageind, links, faults) for black-box tests and benchmarks.

Every part is a context manager and leaves nothing behind. See README.md in this folder.
"""

from testbed.containerd import Containerd, CtrError, drop_caches
from testbed.fault_proxy import FaultProxy
from testbed.faults import (
    CorruptByte, Delay, Hang, Redirect, Reset, StatusCode, Truncate, WholeBlob, WrongContentRange, WrongData)
from testbed.links import LatencyProxy, Namespace, ShapedLink
from testbed.machine import Machine
from testbed.pagein import Pagein
from testbed.pageind import Pageind
from testbed.pki import PrivateCa
from testbed.process import TestbedError, wait_until
from testbed.push import push_image
from testbed.registry import Registry
from testbed.service_manager import ServiceManager
from testbed.skopeo import copy_layout
from testbed.token_server import TokenServer
from testbed.treecmp import compare_trees

__all__ = [
    "Containerd", "CorruptByte", "CtrError", "Delay", "FaultProxy", "Hang", "LatencyProxy", "Machine", "Namespace",
    "Pagein", "Pageind", "PrivateCa", "Redirect", "Registry", "Reset", "ServiceManager", "ShapedLink",
    "StatusCode", "TestbedError", "TokenServer", "Truncate", "WholeBlob", "WrongContentRange", "WrongData",
    "compare_trees", "copy_layout", "drop_caches", "push_image", "wait_until",
]

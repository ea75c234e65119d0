"""CPython's own tests of TCP and UDP sockets: a line "TEST OUTCOME" for each, in order.

Run by the system's Python, whose tests Debian has in libpython3.11-testsuite.
"""

from __future__ import annotations

import re
import sys
import unittest
from traceback import format_exception
from types import TracebackType

from test import test_socket

FAMILIES = re.compile(
    r"(Basic|Sendmsg|Recvmsg|RecvmsgInto|RecvmsgRFC3542Ancillary|RecvmsgIntoRFC3542Ancillary)"
    r"(TCP|UDP6?)Test2?|"
    r"Interrupted(Recv|Send)TimeoutTest|TCPCloserTest|NonBlockingTCPTests|"
    r"\w*FileObjectClassTestCase|(TCP|UDP)TimeoutTest|BufferIOTest|ContextManagersTest|"
    r"NetworkConnection\w+|SendfileUsing\w+|CreateServer\w*Test"
)
"""The test cases that need nothing but TCP and UDP over IPv4 and IPv6."""

Error = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Outcomes(unittest.TestResult):
    """Writes how each test ended; what failed, with its reason, to standard error."""

    def addSuccess(self, test: unittest.TestCase) -> None:
        print(test.id(), "passed", flush=True)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        print(test.id(), "skipped", flush=True)

    def addFailure(self, test: unittest.TestCase, err: Error) -> None:
        self._failed(test, err)

    def addError(self, test: unittest.TestCase, err: Error) -> None:
        self._failed(test, err)

    def _failed(self, test: unittest.TestCase, err: Error) -> None:
        print(test.id(), "failed", flush=True)
        print(test.id(), "".join(format_exception(*err)), file=sys.stderr, flush=True)


def main() -> None:
    loader = unittest.defaultTestLoader
    cases = [
        case
        for name, case in vars(test_socket).items()
        if FAMILIES.fullmatch(name) and issubclass(case, unittest.TestCase)
    ]
    unittest.TestSuite(map(loader.loadTestsFromTestCase, cases)).run(Outcomes())


if __name__ == "__main__":
    main()

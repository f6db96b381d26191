# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client's driver: sockets and threads.

protocol.connection numbers the requests and matches the answers; client.calls
makes the requests.  A thread that waits for an answer while no thread receives
becomes the receiver and receives for all; the other threads sleep until
something arrives.

Invariants
    _lock guards the connection, and nothing waits while it is held, neither
        for the socket, whose calls do not block, nor for another lock.  A Turn
        is taken before the lock, never while it is held.
    At most one thread receives, without the lock.
    Finalisers take no lock: a stream that the garbage collector closes, perhaps
        in a thread that has the lock, leaves a note (give_up()), and the next
        call on the link carries it out.
    An exception from outside (KeyboardInterrupt, a signal handler's) may
        strike in any line.  Each system call stores what it received in the
        same uninterruptible step, so no event is lost.
    A forked process uses no connection of its parent (client.process).
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from fusenotify.client.calls import ask
from fusenotify.client.common import (
    HELLO_SECONDS,
    RECEIVE_SIZE,
    client_closed,
    connect_refusal,
    is_the_sockets,
    no_answer,
    rights,
)
from fusenotify.client.process import belongs_here, foreign
from fusenotify.protocol.connection import Call, ClientConnection, Descriptor
from fusenotify.protocol.messages import VERSION, AnyAnswer, AnyRequest, Hello, Welcome
from fusenotify.protocol.unread import AnyUnread

T = TypeVar("T")


class Link:
    """A connection, which connect() establishes.  name is the path of the socket."""

    welcome: Welcome

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = belongs_here(self)
        self._connection = ClientConnection(name)
        self._lock = threading.Lock()
        self._holder = 0  # the thread that has the lock
        self._receiver = 0  # the thread that receives
        self._senders: set[int] = set()  # the threads that wait until the socket takes more
        self._unsent = False  # whether there are frames that the socket has not taken
        self._sleepers: deque[threading.Lock] = deque()
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    async def connect(self) -> None:
        """Connect, and say hello.

        Raises OSError, ConnectionLost, RemoteProtocolError.
        """
        try:
            self._socket.settimeout(HELLO_SECONDS)
            try:
                self._socket.connect(self._name)
            except TimeoutError:
                raise
            except OSError as error:
                raise connect_refusal(error, self._name) from None
            self.welcome = await ask(self, Hello(version=VERSION), Welcome)
            self._connection.welcomed(self.welcome)
            self._socket.settimeout(None)
        except TimeoutError:
            self.close()
            raise no_answer(self._name) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket; callers that wait for an answer get EBADF."""
        if not self._process.is_this():
            self.let_go()
            return
        self._connection.fail(client_closed())
        self._closed = True
        with contextlib.suppress(OSError):  # it may not be connected any more
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes threads that receive or send
        if not self.is_in_use_here():
            self._exclusively(self._close_unused)

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 if it is closed."""
        return self._socket.fileno()

    def let_go(self) -> None:
        """Close this process's copy of its parent's socket; the connection stays open."""
        self._socket.close()

    def is_in_use_here(self) -> bool:
        """Return whether a handler runs that interrupted a call of this thread."""
        return threading.get_ident() in (self._holder, self._receiver)

    def send(
        self,
        request: AnyRequest,
        unread: AnyUnread | None = None,
        on_answer: Callable[[AnyAnswer], object] | None = None,
        descriptor: Descriptor | None = None,
    ) -> Call:
        """Send a request as soon as the socket takes it, and return its call."""
        self._check()
        return self._exclusively(partial(self._send, request, unread, on_answer, descriptor))

    def say(self, request: AnyRequest) -> None:
        """Send a request whose answer nobody waits for, at once or with the next request."""
        if not self._process.is_this():
            return
        self._connection.say(request)
        if self._holder != threading.get_ident():
            self._exclusively(self._progress)

    async def wait(self, call: Call, take: Callable[[], T | None]) -> T:
        """Wait until take() returns something other than None for the call, and return that."""
        self._check()
        me = threading.get_ident()
        try:
            while True:
                taken, alarm = self._exclusively(partial(self._look, take))
                if taken is not None:
                    return taken
                if self._receiver == me:
                    self._receive()
                elif me in self._senders:
                    self._wait_to_send()
                elif (
                    alarm is not None and self._receiver
                ):  # a receiver that has left may not have seen our alarm
                    alarm.acquire()
        except BaseException:
            self.give_up(call)
            # Somebody may wait in select() for what was received: the socket no longer shows it.
            self._exclusively(self._connection.settle)
            raise
        finally:
            if self._receiver == me:
                self._receiver = 0
                self._wake()
            if self._closed:
                self._exclusively(self._close_unused)

    def give_up(self, call: Call) -> None:
        """Drop a call, whose answer is no longer wanted; the next request tells the daemon."""
        if self._process.is_this():
            self._connection.give_up(call)

    def put_back(self, call: Call) -> None:
        """Put back records that a call took but that reached no caller."""
        if self._process.is_this():
            self._exclusively(call.put_back)

    def _exclusively(self, work: Callable[[], T]) -> T:
        """Run work() with the lock held, and return its result."""
        me = threading.get_ident()
        with self._lock:
            self._holder = me
            try:
                return work()
            finally:
                self._holder = 0

    def _check(self) -> None:
        if not self._process.is_this():
            raise foreign(self._process)
        if self.is_in_use_here():
            raise _interrupted_itself()

    # The methods below need the lock.

    def _send(
        self,
        request: AnyRequest,
        unread: AnyUnread | None,
        on_answer: Callable[[AnyAnswer], object] | None,
        descriptor: Descriptor | None,
    ) -> Call:
        self._connection.settle()
        call = self._connection.ask(request, unread, on_answer, descriptor)
        self._transmit()
        return call

    def _look(self, take: Callable[[], T | None]) -> tuple[T | None, threading.Lock | None]:
        """Return what take() returns; if that is None, decide how this thread goes on.

        It becomes the receiver, or waits to send, or sleeps: then the second
        value is a lock, which is released when the thread has to look again.
        """
        self._progress()
        taken = take()
        alarm = None
        if taken is None:
            me = threading.get_ident()
            self._unsent = self._connection.next_frame() is not None
            if self._receiver in (0, me):
                self._receiver = me
            elif self._unsent:
                self._senders.add(me)
            else:
                alarm = threading.Lock()
                alarm.acquire()
                self._sleepers.append(alarm)
        return taken, alarm

    def _progress(self) -> None:
        """Deliver what was received, and send what the socket takes."""
        self._connection.settle()
        self._transmit()

    def _transmit(self) -> None:
        """Send what the socket takes without blocking."""
        while (frame := self._connection.next_frame()) is not None:
            try:
                # One step that no exception can interrupt: sent and counted, or neither.
                frame.counts.extend(
                    map(
                        self._socket.sendmsg,
                        ((frame.rest(),),),
                        (rights(frame.descriptors()),),
                        (socket.MSG_DONTWAIT,),
                    )
                )
            except BlockingIOError:
                return
            except OSError as error:
                if not is_the_sockets(error):
                    raise
                # The server's last answers are still to be received, and then the end of file.
                self._connection.drop_frames()

    def _close_unused(self) -> None:
        """Close the socket unless a thread is about to use its number."""
        if not (self._receiver or self._senders):
            self._socket.close()

    # The methods below are called without the lock.

    def _receive(self) -> None:
        """Receive for all threads, or return as soon as the socket takes unsent frames."""
        received = self._connection.received
        try:
            if self._unsent:
                ready = self._poll(select.POLLIN | select.POLLOUT)
                if ready == select.POLLOUT:
                    return
            # One step that no exception can interrupt: received and stored, or neither.
            received.extend(map(self._socket.recv, (RECEIVE_SIZE,)))
        except OSError as error:
            if isinstance(error, TimeoutError) or not is_the_sockets(error):
                raise
            received.append(b"")  # reset, or shut down by close()
        self._wake()

    def _wait_to_send(self) -> None:
        """Wait until the socket takes more, while another thread receives."""
        try:
            self._poll(select.POLLOUT)
        finally:
            self._senders.discard(threading.get_ident())

    def _poll(self, events: int) -> int:
        poll = select.poll()
        poll.register(self._socket, events)
        return poll.poll()[0][1]

    def _wake(self) -> None:
        """Wake all threads that sleep."""
        with contextlib.suppress(IndexError):  # other threads may do the same now
            while self._sleepers:
                self._sleepers.popleft().release()


def _interrupted_itself() -> OSError:
    """Return the error for a call that interrupted another one and would wait for ever."""
    return OSError(
        errno.EDEADLK,
        "this thread is in the middle of another call of this client: "
        "a signal handler or finaliser may only close the client",
    )


class Turn:
    """A lock: only one thread at a time has the turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder = 0

    async def take(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for the turn, and return the result of work(), which runs during it.

        Raises OSError (EDEADLK) if this thread has the turn already.
        """
        me = threading.get_ident()
        if self._holder == me:
            raise _interrupted_itself()
        with self._lock:
            self._holder = me
            try:
                return await work()
            finally:
                self._holder = 0


class Blocking:
    """The driver of the blocking client."""

    async def connect(self, name: str) -> Link:
        """Connect, and say hello."""
        link = Link(name)
        await link.connect()
        return link

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        time.sleep(seconds)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Return the result of call(), which runs in this thread."""
        return call()

    def turn(self) -> Turn:
        """Return a new turn."""
        return Turn()


BLOCKING = Blocking()

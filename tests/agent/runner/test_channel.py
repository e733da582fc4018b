import os
import socket
import threading

from agent.runner.channel import Channel
from agent.runner.control import Drained, HandOver, Rejected


def pair() -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return Channel(one), Channel(other)


def test_messages_arrive_whole_and_in_order() -> None:
    one, other = pair()
    large = Rejected(cascade="digits", message="x" * 900_000)

    def send_all() -> None:
        for message in (Drained(), large, Drained()):
            one.send(message)

    sender = threading.Thread(target=send_all)
    sender.start()
    received = [other.receive() for _ in range(3)]
    sender.join()
    assert received == [(m.encode(), []) for m in (Drained(), large, Drained())]
    one.close()
    assert other.receive() is None
    other.close()


def test_descriptors_travel_with_their_message() -> None:
    one, other = pair()
    reader, writer = os.pipe()
    one.send(Drained())
    one.send(HandOver(), (writer,))
    one.send(Drained())
    os.close(writer)
    assert other.receive() == (Drained().encode(), [])
    message = other.receive()
    assert message is not None
    payload, fds = message
    assert payload == HandOver().encode()
    assert len(fds) == 1
    assert not os.get_inheritable(fds[0])
    os.write(fds[0], b"through")
    assert os.read(reader, 7) == b"through"
    assert other.receive() == (Drained().encode(), [])
    os.close(fds[0])
    os.close(reader)
    one.close()
    other.close()


def test_many_threads_may_send() -> None:
    one, other = pair()
    text = "y" * 50_000
    senders = [
        threading.Thread(target=one.send, args=(Rejected(cascade=f"c{n}", message=text),))
        for n in range(8)
    ]
    for sender in senders:
        sender.start()
    received = [other.receive() for _ in senders]
    for sender in senders:
        sender.join()
    assert {m[0] for m in received if m} == {
        Rejected(cascade=f"c{n}", message=text).encode() for n in range(8)
    }
    one.close()
    other.close()


def test_a_frame_cut_short_is_the_end() -> None:
    one, other = socket.socketpair()
    one.sendall(b"\x00\x00\x00\x10\x00half")
    one.close()
    channel = Channel(other)
    assert channel.receive() is None
    channel.close()

import json
import os
import socket

import numpy as np
import pytest

from model.preprocessing import decode
from worker.decoding import protocol

SMALL = decode.Preprocess(32, 24, "bicubic")


def test_a_request_survives_the_pipe():
    for seconds in (None, 0.25):
        request = protocol.Request(SMALL, seconds, ["0" * 64, "1" * 64])
        assert protocol.decode_request(protocol.encode_request(request)) == request


def test_descriptors_arrive_in_order(tmp_path):
    """A file that was opened here can be read there; without descriptors the receiver gets an error."""
    parent, child = socket.socketpair()
    files = [tmp_path / str(number) for number in range(3)]
    for file in files:
        file.write_text(file.name)
    sent = [os.open(file, os.O_RDONLY) for file in files]
    protocol.send_descriptors(parent, sent)
    received = protocol.receive_descriptors(child, 3)
    assert [os.read(descriptor, 9) for descriptor in received] == [b"0", b"1", b"2"]
    for descriptor in sent + received:
        os.close(descriptor)
    parent.close()
    with pytest.raises(EOFError):
        protocol.receive_descriptors(child, 3)
    child.close()


def test_replies_survive_the_pipe():
    replies = [protocol.Reply(None, "", 1.25), protocol.Reply("undecodable", "It is cut off.", 0.5)]
    assert protocol.decode_replies(protocol.encode_replies(replies)) == replies


@pytest.mark.parametrize(
    "values",
    [
        "no list",
        [["undecodable", "x"]],
        [["no such code", "x", 1, 1]],
        [[["undecodable"], "x", 1, 1]],
        [["x" * 51, "x", 1, 1]],
        [["undecodable", "x" * 1001, 1, 1]],
        [["undecodable", "nul\0", 1, 1]],
        [["undecodable", 7, 1, 1]],
        [[None, "", -1, 1]],
        [[None, "", 1, "1"]],
        [[None, "", 1, float("nan")]],
        [[None, "", float("inf"), 1]],
        [[None, "", 1, 1], None],
    ],
)
def test_what_no_decoder_sends_is_rejected(values):
    """An image may have taken control of it; the database would reject such a row, with all of its batch."""
    with pytest.raises(ValueError, match="malformed reply"):
        protocol.decode_replies(json.dumps(values).encode())


def test_a_reply_to_a_full_request_fits_in_a_message():
    replies = [protocol.Reply("undecodable", "x" * 1000, 123456.789)] * protocol.MAX_CHUNK
    assert len(protocol.encode_replies(replies)) < protocol.MAX_REPLY_BYTES


def test_the_shared_memory_holds_a_request_behind_its_header():
    """Large images go in requests of eight."""
    for preprocessing, count in ((SMALL, 32), (decode.Preprocess(2000, 2000), 8)):
        assert protocol.max_chunk(preprocessing) == count
        memory = np.zeros(protocol.memory_bytes(preprocessing), np.uint8)
        slots = protocol.slots(memory, preprocessing)
        assert slots.shape == (count, preprocessing.height, preprocessing.width, 3)
        slots[:] = 255
        assert protocol.done_counter(memory)[0] == 0
        protocol.done_counter(memory)[0] = 7
        assert memory[0] == 7
        assert slots.min() == 255

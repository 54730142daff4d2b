import threading

import pytest

from reid.evaluation._ahead import ahead


@pytest.mark.parametrize("depth", [1, 3, 20])
def test_items_come_in_order(depth):
    assert list(ahead(iter(range(7)), depth)) == list(range(7))
    assert list(ahead([], depth)) == []


def test_the_next_item_is_computed_while_one_is_used():
    second = threading.Event()

    def items():
        yield 1
        second.set()
        yield 2

    stream = ahead(items())
    assert next(stream) == 1
    assert second.wait(timeout=10)
    assert list(stream) == [2]


def test_an_error_comes_where_the_item_would():
    def items():
        yield 1
        raise ValueError("second")

    stream = ahead(items())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="second"):
        next(stream)


def test_its_thread_ends_with_it():
    before = threading.active_count()
    stream = ahead(range(100))
    next(stream)
    stream.close()
    assert threading.active_count() == before

from reid.data._random import generator


def numbers(*key):
    return generator(*key).integers(0, 2**62, 4).tolist()


def test_same_key_same_numbers():
    assert numbers(3, "augment", 1, 2) == numbers(3, "augment", 1, 2)


def test_every_part_of_the_key_counts():
    keys = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0, "a", 1, 0), (0, "a", 0, 1), (0, "a", 1, 2)]
    assert len({tuple(numbers(*key)) for key in keys}) == len(keys)

"""Slow, obvious graph sampling: each class is a pack of cards that is dealt from the top."""

import random

import numpy as np


class SlowGraphSampler:
    def __init__(self, labels, batch_size, num_images, shuffler: random.Random, chooser: np.random.RandomState):
        self.num_images = num_images
        self.num_others = batch_size // num_images - 1
        self.shuffler = shuffler
        self.chooser = chooser
        self.classes = sorted(set(labels))
        self.order = {c: [i for i, label in enumerate(labels) if label == c] for c in self.classes}
        for c in self.classes:
            shuffler.shuffle(self.order[c])
        self.pack = {c: list(self.order[c]) for c in self.classes}

    def representatives(self):
        return [self.chooser.choice(self.order[c]) for c in self.classes]

    def deal(self, c):
        card = self.pack[c].pop(0)
        if not self.pack[c]:
            self.shuffler.shuffle(self.order[c])
            self.pack[c] = list(self.order[c])
        return card

    def epoch(self, distance):
        batches = []
        for anchor in self.classes:
            others = [c for c in self.classes if c != anchor]
            nearest = sorted(others, key=lambda c: distance[anchor][c])[: self.num_others]
            batches.append([self.deal(c) for c in [*nearest, anchor] for _ in range(self.num_images)])
        self.chooser.shuffle(batches)
        return batches

"""Untrusted: while timed calls run, torch.empty and its kin hand out the grader's places for the results.

So the grader sees each result where it was made, with no copy that a clock would have to count or to forgive.
"""

import torch

KIN = {"empty": None, "zeros": 0, "ones": 1}  # and what each fills its tensor with


class Allocator:
    """Stands before torch's own functions for good, and passes on what was not offered a place."""

    def __init__(self):
        self.places = {}
        for name, value in KIN.items():
            setattr(torch, name, self._by_size(getattr(torch, name), value))
            setattr(torch, f"{name}_like", self._like(getattr(torch, f"{name}_like"), value))
            new = getattr(torch.Tensor, f"new_{name}")
            setattr(torch.Tensor, f"new_{name}", self._new(new, value))
        torch.full_like = self._full_like(torch.full_like)

    def offer(self, places: list[torch.Tensor]) -> None:
        """Places for the results of the next call, each given away once."""
        self.places = {}
        for place in places:
            self.places.setdefault((place.shape, place.dtype), []).append(place)

    def take(self, shape, dtype, value):
        """The place of a result of this shape and dtype, filled; None where none is left."""
        if not (self.places and (left := self.places.get((shape, dtype)))):
            return None
        place = left.pop(0)
        return place if value is None else place.fill_(value)

    def _by_size(self, original, value):
        def allocate(*size, dtype=None, device=None, **more):
            if self.places and device is not None and not more and torch.device(device).type == "cuda":
                shape = torch.Size(size if not size or isinstance(size[0], int) else size[0])
                place = self.take(shape, dtype or torch.get_default_dtype(), value)
                if place is not None:
                    return place
            return original(*size, dtype=dtype, device=device, **more)

        return allocate

    def _like(self, original, value):
        def allocate(like, *, dtype=None, **more):
            if self.places and like.is_cuda and like.is_contiguous() and more.keys() <= {"device"}:
                place = self.take(like.shape, dtype or like.dtype, value)
                if place is not None:
                    return place
            return original(like, dtype=dtype, **more)

        return allocate

    def _new(self, original, value):
        def allocate(tensor, *size, dtype=None, **more):
            if self.places and tensor.is_cuda and not more:
                shape = torch.Size(size if not size or isinstance(size[0], int) else size[0])
                place = self.take(shape, dtype or tensor.dtype, value)
                if place is not None:
                    return place
            return original(tensor, *size, dtype=dtype, **more)

        return allocate

    def _full_like(self, original):
        def allocate(like, value, *, dtype=None, **more):
            if self.places and like.is_cuda and like.is_contiguous() and not more:
                place = self.take(like.shape, dtype or like.dtype, value)
                if place is not None:
                    return place
            return original(like, value, dtype=dtype, **more)

        return allocate

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# pprof.py FILE : what pprof would find in a profile, by profile.proto alone: a line a sample, calls and values.
import gzip
import sys


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            length, at = varint(data, at)
            value = data[at:at + length]
            assert len(value) == length, "cut short"
            at += length
        else:
            raise ValueError("wire type %d" % (key & 7))
        yield key >> 3, value


def numbers(data):
    at = 0
    while at < len(data):
        value, at = varint(data, at)
        yield value


with gzip.open(sys.argv[1]) as f:
    profile = list(fields(f.read()))
strings = [value.decode() for field, value in profile if field == 6]
assert strings[0] == ""
functions = {}
locations = {}
mappings = set()
for field, value in profile:
    if field == 3:
        mappings.add(dict(fields(value))[1])
    if field == 5:
        function = dict(fields(value))
        functions[function[1]] = strings[function[2]]
for field, value in profile:
    if field == 4:
        location = dict(fields(value))
        assert location[2] in mappings
        locations[location[1]] = functions[dict(fields(location[4]))[1]]
types = [strings[dict(fields(value))[1]] for field, value in profile if field == 1]
assert types == ["inuse_objects", "inuse_space"], types
for field, value in profile:
    if field == 2:
        sample = dict(fields(value))
        calls = [locations[number] for number in numbers(sample[1])]
        print(";".join(calls), *numbers(sample[2]))

"""Reads the footer of a Parquet file as it is stored: Thrift structs as dictionaries of field ids.

Written from the specifications of Thrift's compact protocol and of Parquet, and independent of the
libraries under test: they show a footer as they understand it.
"""

import struct

BOOLEANS = {1: True, 2: False}


class _Reader:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def zigzag(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def take(self, length):
        self.at += length
        return bytes(self.data[self.at - length : self.at])

    def value(self, kind):
        if kind in BOOLEANS:
            return self.byte() == 1
        if kind == 3:
            return self.byte()
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            return self.take(8)
        if kind == 8:
            return self.take(self.varint())
        if kind in (9, 10):
            header = self.byte()
            count = header >> 4
            count = self.varint() if count == 15 else count
            return [self.value(header & 15) for _ in range(count)]
        if kind == 12:
            return self.struct()
        raise ValueError(f"type {kind}")

    def struct(self):
        fields, identifier = {}, 0
        while header := self.byte():
            delta, kind = header >> 4, header & 15
            identifier = identifier + delta if delta else self.zigzag()
            fields[identifier] = BOOLEANS[kind] if kind in BOOLEANS else self.value(kind)
        return fields


def struct_at(path, offset):
    """Reads one struct, such as a page index."""
    with open(path, "rb") as file:
        return _Reader(file.read(), offset).struct()


class Footer:
    """The fields of `FileMetaData`, by their names in `parquet.thrift`."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        (length,) = struct.unpack("<I", data[-8:-4])
        assert data[:4] == data[-4:] == b"PAR1"
        fields = _Reader(data[len(data) - 8 - length : -8]).struct()
        self.path = path
        self.version, self.schema, self.rows = fields[1], fields[2], fields[3]
        self.row_groups = fields[4]
        self.key_values = fields.get(5)
        self.created_by = fields.get(6, b"").decode()
        self.column_orders = fields.get(7)

    def chunks(self):
        """Every column chunk: the fields of `ColumnChunk`, and those of its `ColumnMetaData`."""
        for group in self.row_groups:
            for place, chunk in enumerate(group[1]):
                yield place, chunk, chunk[3]

    def traits(self):
        """What a writer decided for each column: codec, dictionary, statistics, indexes."""
        traits = {}
        for place, chunk, column in self.chunks():
            has = {
                f"codec {column[4]}",
                *({"dictionary"} if 11 in column else ()),
                *({"statistics"} if 12 in column else ()),
                *({"bloom filter"} if 14 in column else ()),
                *({"size statistics"} if 16 in column else ()),
                *({"offset index"} if 4 in chunk else ()),
                *({"column index"} if 6 in chunk else ()),
                *({"NaN count"} if 9 in column.get(12, {}) else ()),
            }
            traits.setdefault(place, set()).update(has)
        return traits

    def sorting_columns(self):
        return [group.get(4) for group in self.row_groups]

    def page_indexes(self):
        """The ids of the fields that the page indexes have, of all columns."""
        column_index, offset_index = set(), set()
        for _, chunk, _ in self.chunks():
            if 6 in chunk:
                column_index |= struct_at(self.path, chunk[6]).keys()
            if 4 in chunk:
                offset_index |= struct_at(self.path, chunk[4]).keys()
        return column_index, offset_index

//! Just enough of FlatBuffers to look at an answer: fields of a table by their place in the schema. Every read is checked
//! against the bytes; nothing is decoded that is not asked for, so it costs a few nanoseconds where a verifier costs a
//! hundred.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// A table in a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    vtable: usize,
}

/// A vector in a buffer: where its elements begin, and how many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector {
    /// Offset of the first element.
    pub at: usize,
    /// Elements.
    pub length: usize,
}

impl<'a> Table<'a> {
    /// The root of `bytes`.
    #[inline]
    pub fn root(bytes: &'a [u8]) -> Option<Table<'a>> {
        Table::behind(bytes, 0)
    }

    /// The table that the offset at `place` points to.
    #[inline]
    pub fn behind(bytes: &'a [u8], place: usize) -> Option<Table<'a>> {
        let at = place.checked_add(u32_at(bytes, place)? as usize)?;
        let back = u32_at(bytes, at)? as i32;
        let vtable = usize::try_from(at as i64 - i64::from(back)).ok()?;
        Some(Table { bytes, at, vtable })
    }

    /// Where a field lies; `None` where it has its default.
    #[inline]
    fn place(&self, field: usize) -> Option<usize> {
        let length = usize::from(u16_at(self.bytes, self.vtable)?);
        let entry = 4 + 2 * field;
        if entry + 2 > length {
            return None;
        }
        match u16_at(self.bytes, self.vtable + entry)? {
            0 => None,
            offset => Some(self.at + usize::from(offset)),
        }
    }

    /// A `ulong`; 0 where it is absent.
    #[inline]
    pub fn u64(&self, field: usize) -> Option<u64> {
        match self.place(field) {
            None => Some(0),
            Some(place) => self.bytes.get(place..place + 8)?.try_into().ok().map(u64::from_le_bytes),
        }
    }

    /// A `ubyte`; 0 where it is absent.
    #[inline]
    pub fn u8(&self, field: usize) -> Option<u8> {
        self.place(field).map_or(Some(0), |place| self.bytes.get(place).copied())
    }

    /// A vector whose elements are of `element_bytes`, all within the bytes.
    #[inline]
    pub fn vector(&self, field: usize, element_bytes: usize) -> Option<Vector> {
        let place = self.place(field)?;
        let at = place.checked_add(u32_at(self.bytes, place)? as usize)?;
        let length = u32_at(self.bytes, at)? as usize;
        let end = at + 4 + length.checked_mul(element_bytes)?;
        (end <= self.bytes.len()).then_some(Vector { at: at + 4, length })
    }

    /// The structs of a vector, where they lie.
    #[inline]
    pub fn rows<T: FromBytes + KnownLayout + Immutable + Unaligned>(&self, field: usize) -> Option<&'a [T]> {
        let vector = self.vector(field, size_of::<T>())?;
        <[T]>::ref_from_bytes(&self.bytes[vector.at..vector.at + vector.length * size_of::<T>()]).ok()
    }

    /// A table within this one.
    #[inline]
    pub fn table(&self, field: usize) -> Option<Table<'a>> {
        Table::behind(self.bytes, self.place(field)?)
    }

    /// The table that a vector of tables has at `index`.
    #[inline]
    pub fn element(&self, vector: Vector, index: usize) -> Option<Table<'a>> {
        Table::behind(self.bytes, vector.at + 4 * index)
    }
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

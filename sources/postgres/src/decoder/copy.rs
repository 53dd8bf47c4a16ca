//! The binary format of COPY: a header, rows, an end.

use super::{Cell, DecodeError};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Takes rows out of what a COPY sends. PostgreSQL sends a row a message, and header and end in messages of their own or with a
/// row; nothing here depends on more than that no row is cut.
#[derive(Default, Debug)]
pub struct Copied {
    has_begun: bool,
    has_ended: bool,
}

impl Copied {
    /// Reads a message: hands each of its rows, as its cells, to `take`.
    ///
    /// # Errors
    /// Where it is not this format, or a row has not `N` columns.
    pub fn read<const N: usize>(
        &mut self,
        message: &[u8],
        mut take: impl FnMut([Cell<'_>; N]),
    ) -> Result<(), DecodeError> {
        let mut rest = super::Cursor(message);
        if !self.has_begun {
            if rest.bytes(SIGNATURE.len(), "a COPY's signature")? != SIGNATURE {
                return Err(DecodeError::NotACopy);
            }
            // OIDs, critical extensions: nothing that is asked for here has them.
            let flags = rest.u32("a COPY's flags")?;
            if flags != 0 {
                return Err(DecodeError::Illegal { what: "flags of a COPY", found: flags.into() });
            }
            rest.counted("a COPY's extension")?;
            self.has_begun = true;
        }
        while !rest.0.is_empty() {
            if self.has_ended {
                return Err(DecodeError::Trailing { message: 'd', bytes: rest.0.len() });
            }
            let columns = rest.u16("a row's number of columns")?.cast_signed();
            if columns == -1 {
                self.has_ended = true;
                continue;
            }
            if usize::try_from(columns) != Ok(N) {
                return Err(DecodeError::Columns { expected: N, found: columns.into() });
            }
            let mut cells = [Cell::Null; N];
            for cell in &mut cells {
                let length = rest.u32("a cell's length")?;
                if length != u32::MAX {
                    let illegal = DecodeError::Illegal { what: "length of a cell", found: length.into() };
                    let length = i32::try_from(length).map_err(|_| illegal)?;
                    *cell = Cell::Binary(rest.bytes(length.unsigned_abs() as usize, "a cell")?);
                }
            }
            take(cells);
        }
        Ok(())
    }

    /// Whether the end has come: without it, rows are missing.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }
}

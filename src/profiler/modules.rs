//! The program and its libraries, as they lie in memory.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use object::read::{ReadCache, ReadRef};
use object::{Object, ObjectSection, ObjectSegment};

/// A mapped file that holds code.
pub(super) struct Module {
    /// As the kernel names it.
    pub(super) name: String,
    /// By which it can be opened, also where a newer one has taken its place.
    pub(super) path: PathBuf,
    /// Where its code lies.
    pub(super) range: Range<u64>,
    /// Where in the file that begins.
    pub(super) file_offset: u64,
    /// What is added to an address in the file to get that in memory.
    pub(super) base: u64,
}

impl Module {
    /// All of this process.
    pub(super) fn all() -> io::Result<Vec<Module>> {
        let program = fs::read_link("/proc/self/exe").unwrap_or_default();
        let maps = fs::read_to_string("/proc/self/maps")?;
        Ok(maps.lines().filter_map(|line| Module::of(line, &program.to_string_lossy())).collect())
    }

    /// Of a line of `maps`; none where it holds no code of a file.
    fn of(line: &str, program: &str) -> Option<Module> {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let range = number(start)?..number(end)?;
        let is_code = words.next()?.contains('x');
        let file_offset = number(words.next()?)?;
        let name = words.nth(2)?.trim();
        if !is_code || !name.starts_with('/') {
            return None;
        }
        let path = if name == program { PathBuf::from("/proc/self/exe") } else { PathBuf::from(name) };
        let cache = ReadCache::new(File::open(&path).ok()?);
        let file = object::File::parse(&cache).ok()?;
        let base = base(&file, range.start, file_offset)?;
        Some(Module { name: name.to_owned(), path, range, file_offset, base })
    }

    /// A section's addresses in the file, and its bytes.
    pub(super) fn sections<const COUNT: usize>(
        &self,
        names: [&str; COUNT],
    ) -> [Option<(Range<u64>, Vec<u8>)>; COUNT] {
        let none = || [const { None }; COUNT];
        let Ok(file) = File::open(&self.path) else { return none() };
        let cache = ReadCache::new(file);
        let Ok(file) = object::File::parse(&cache) else { return none() };
        names.map(|name| {
            let section = file.section_by_name(name)?;
            let start = section.address();
            Some((start..start + section.size(), section.data().ok()?.to_vec()))
        })
    }
}

/// What is added to addresses, seen from the segment that was mapped at `start`.
fn base<'a>(file: &object::File<'a, impl ReadRef<'a>>, start: u64, file_offset: u64) -> Option<u64> {
    file.segments().find_map(|segment| {
        let (offset, bytes) = segment.file_range();
        // Mappings begin at pages, and segments anywhere within one.
        let is_it =
            file_offset < offset + bytes && offset < file_offset + (1 << 16) && segment_has_code(&segment);
        is_it.then(|| start.wrapping_sub(segment.address().wrapping_sub(offset).wrapping_add(file_offset)))
    })
}

fn segment_has_code<'a>(segment: &impl ObjectSegment<'a>) -> bool {
    matches!(segment.flags(), object::SegmentFlags::Elf { p_flags, .. } if p_flags & object::elf::PF_X == object::elf::PF_X)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_among_its_modules() {
        let modules = Module::all().unwrap();
        let here = this_program_is_among_its_modules as fn() as usize as u64;
        let module = modules.iter().find(|module| module.range.contains(&here)).expect("it runs");
        let [text, unwinding, _] = module.sections([".text", ".eh_frame", ".nothing"]);
        let (text, _) = text.unwrap();
        assert!(text.contains(&(here - module.base)) && unwinding.is_some(), "{text:x?} {:x}", module.base);
        assert_eq!(module.path, PathBuf::from("/proc/self/exe"));
    }
}

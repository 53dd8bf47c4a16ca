//! From addresses to names. A build that was stripped has only addresses: they are shown as such, beside the module.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::rc::Rc;

use addr2line::Loader;

use super::modules::Module;

/// Addresses from here on are the kernel's.
const KERNEL: u64 = 1 << 63;

/// A function that was being run, and where in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    /// Its name.
    pub(super) function: String,
    /// The file that it is written in; empty where that is not known.
    pub(super) file: String,
    /// The line; 0 where that is not known.
    pub(super) line: u32,
}

/// Names of all addresses of this process, and of the kernel.
pub(super) struct Symbols {
    modules: Vec<(Module, Option<Loader>)>,
    /// By address; empty where the host shows none.
    kernel: Vec<(u64, String)>,
    known: HashMap<u64, Rc<[Frame]>>,
}

impl Symbols {
    /// Of these modules.
    pub(super) fn of(modules: Vec<Module>) -> Symbols {
        let modules = modules.into_iter().map(|module| {
            let loader = Loader::new(&module.path).ok();
            (module, loader)
        });
        let kernel =
            fs::read_to_string("/proc/kallsyms").map_or_else(|_| Vec::new(), |text| kernel_symbols(&text));
        Symbols { modules: modules.collect(), kernel, known: HashMap::new() }
    }

    /// The modules.
    pub(super) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.iter().map(|(module, _)| module)
    }

    /// The functions at an address, innermost first: several where the compiler has put one into another. One at least.
    pub(super) fn at(&mut self, address: u64) -> Rc<[Frame]> {
        if let Some(known) = self.known.get(&address) {
            return Rc::clone(known);
        }
        let found: Rc<[Frame]> = if address >= KERNEL {
            [self.kernel_at(address)].into()
        } else {
            self.program_at(address).into()
        };
        self.known.insert(address, Rc::clone(&found));
        found
    }

    fn kernel_at(&self, address: u64) -> Frame {
        let next = self.kernel.partition_point(|(start, _)| *start <= address);
        let name = next.checked_sub(1).map_or("[kernel]", |at| self.kernel[at].1.as_str());
        Frame { function: name.to_owned(), file: String::new(), line: 0 }
    }

    fn program_at(&self, address: u64) -> Vec<Frame> {
        let Some((module, loader)) = self.modules.iter().find(|(module, _)| module.range.contains(&address))
        else {
            return vec![Frame { function: "[unknown]".to_owned(), file: String::new(), line: 0 }];
        };
        let inside = address.wrapping_sub(module.base);
        let mut found = loader.as_ref().map(|loader| frames(loader, inside)).unwrap_or_default();
        let symbol = loader.as_ref().and_then(|loader| loader.find_symbol(inside));
        let name = symbol.map(|name| addr2line::demangle_auto(Cow::Borrowed(name), None).into_owned());
        match (found.last_mut(), name) {
            // Line tables say no more than `turn`, symbols `florin::drivers::ring::RingDriver::turn`.
            (Some(outermost), Some(name)) => outermost.function = name,
            (Some(_), None) => {}
            (None, name) => {
                let (_, short) = module.name.rsplit_once('/').unwrap_or_default();
                let function = name.unwrap_or_else(|| format!("{short}+{inside:#x}"));
                found.push(Frame { function, file: String::new(), line: 0 });
            }
        }
        found
    }
}

/// By the debug information: nothing where there is none.
fn frames(loader: &Loader, address: u64) -> Vec<Frame> {
    let mut found = Vec::new();
    let Ok(mut frames) = loader.find_frames(address) else { return found };
    while let Ok(Some(frame)) = frames.next() {
        let Some(name) = frame.function.as_ref().and_then(|name| Some(name.demangle().ok()?.into_owned()))
        else {
            continue;
        };
        let location = frame.location.as_ref();
        found.push(Frame {
            function: name,
            file: location.and_then(|location| location.file).unwrap_or_default().to_owned(),
            line: location.and_then(|location| location.line).unwrap_or_default(),
        });
    }
    found
}

/// A line is `ffffffff81000000 T _stext`, or has a module behind it. Who may not see addresses is shown zeros.
fn kernel_symbols(text: &str) -> Vec<(u64, String)> {
    let symbol = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok().filter(|&address| address >= KERNEL)?;
        let is_code = words.next()?.eq_ignore_ascii_case("t");
        is_code.then_some((address, words.next()?.to_owned()))
    };
    let mut symbols: Vec<_> = text.lines().filter_map(symbol).collect();
    symbols.sort();
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_this_program_is_named_with_its_file_and_line() {
        let mut symbols = Symbols::of(Module::all().unwrap());
        let here = a_function_of_this_program_is_named_with_its_file_and_line as fn() as usize as u64;
        let frames = symbols.at(here);
        let outermost = frames.last().unwrap();
        assert!(outermost.function.ends_with("named_with_its_file_and_line"), "{frames:?}");
        assert!(outermost.file.ends_with("symbols.rs") && outermost.line > 0, "{frames:?}");
        assert_eq!(symbols.at(1)[0].function, "[unknown]");
    }

    #[test]
    fn the_kernels_names_are_found_by_the_address_before() {
        let kernel = kernel_symbols(
            "ffffffff81000100 t second\nffffffff81000000 T first\nffffffff81000080 D data\n0000000000000000 T hidden\n",
        );
        let mut symbols = Symbols { modules: Vec::new(), kernel, known: HashMap::new() };
        assert_eq!(symbols.at(0xffff_ffff_8100_00ff)[0].function, "first");
        assert_eq!(symbols.at(0xffff_ffff_8100_0100)[0].function, "second");
        assert_eq!(symbols.at(KERNEL)[0].function, "[kernel]");
    }
}

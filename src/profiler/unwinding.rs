//! From registers and a stack to the functions that have called each other, by the unwind tables that every build has: frame
//! pointers would cost the shards a register.

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, Unwinder, UnwinderNative,
};

use super::modules::Module;
use super::sample::Sample;
use crate::limits::PROFILE_FRAMES_MAX;

/// What unwinds this process's stacks.
pub(super) struct Unwinding {
    unwinder: UnwinderNative<Vec<u8>, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
}

impl Unwinding {
    /// By the tables of these modules.
    pub(super) fn of(modules: &[Module]) -> Unwinding {
        let mut unwinder = UnwinderNative::new();
        for module in modules {
            let [text, frames, index, got] = module.sections([".text", ".eh_frame", ".eh_frame_hdr", ".got"]);
            let (text_svma, text) = text.unzip();
            let (eh_frame_svma, eh_frame) = frames.unzip();
            let (eh_frame_hdr_svma, eh_frame_hdr) = index.unzip();
            let sections = ExplicitModuleSectionInfo {
                base_svma: 0,
                text_svma,
                text,
                eh_frame_svma,
                eh_frame,
                eh_frame_hdr_svma,
                eh_frame_hdr,
                got_svma: got.map(|(range, _)| range),
                ..Default::default()
            };
            let name = module.name.clone();
            unwinder.add_module(framehop::Module::new(name, module.range.clone(), module.base, sections));
        }
        Unwinding { unwinder, cache: CacheNative::new() }
    }

    /// Where a thread was, innermost first: in the kernel, and in this program. A calling function is given by the last byte of
    /// its call.
    pub(super) fn addresses(&mut self, sample: &Sample<'_>) -> Vec<u64> {
        let mut addresses = sample.kernel.clone();
        let Some(registers) = &sample.registers else { return addresses };
        let mut read = |address: u64| {
            let at = usize::try_from(address.checked_sub(registers.stack).ok_or(())?).map_err(drop)?;
            let bytes = sample.stack.get(at..at.saturating_add(8)).ok_or(())?;
            Ok(u64::from_le_bytes(bytes.try_into().map_err(drop)?))
        };
        let mut frames =
            self.unwinder.iter_frames(registers.instruction, registers.all, &mut self.cache, &mut read);
        // A stack that ends where it was cut off, or cannot be read, is as long as it is.
        while addresses.len() < PROFILE_FRAMES_MAX {
            let Ok(Some(frame)) = frames.next() else { break };
            addresses.push(FrameAddress::address_for_lookup(frame));
        }
        addresses
    }
}

//! From registers and a stack to the functions that have called each other, by the unwind tables that every build has: frame
//! pointers would cost the shards a register.

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, UnwindRegsNative,
    Unwinder, UnwinderNative,
};

use super::modules::Module;
use super::sampler::Sample;
use crate::limits::PROFILE_FRAMES_MAX;

/// The registers that unwinding begins with, as the kernel numbers them (`asm/perf_regs.h`): BP, SP and IP.
#[cfg(target_arch = "x86_64")]
pub(super) const REGISTERS: u64 = 1 << 6 | 1 << 7 | 1 << 8;
/// The same: X29, LR, SP and PC.
#[cfg(target_arch = "aarch64")]
pub(super) const REGISTERS: u64 = 1 << 29 | 1 << 30 | 1 << 31 | 1 << 32;

/// Where a thread was in this program.
pub(super) struct Registers {
    instruction: u64,
    stack: u64,
    all: UnwindRegsNative,
}

impl Registers {
    /// In the order of their numbers; none where the kernel saw none.
    pub(super) fn of(registers: &[u64]) -> Option<Registers> {
        #[cfg(target_arch = "x86_64")]
        {
            let &[frame, stack, instruction] = registers else { return None };
            Some(Registers { instruction, stack, all: UnwindRegsNative::new(instruction, stack, frame) })
        }
        #[cfg(target_arch = "aarch64")]
        {
            let &[frame, link, stack, instruction] = registers else { return None };
            Some(Registers { instruction, stack, all: UnwindRegsNative::new(link, stack, frame) })
        }
    }
}

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

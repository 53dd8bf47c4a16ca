//! What the kernel saw of a thread at one moment, and with which registers unwinding begins.

use framehop::UnwindRegsNative;

/// Where a thread was.
pub(super) struct Sample<'a> {
    /// In the kernel, innermost first.
    pub(super) kernel: Vec<u64>,
    /// In this program; none of a thread that is the kernel's own.
    pub(super) registers: Option<Registers>,
    /// What lay on its stack, from the stack pointer on.
    pub(super) stack: &'a [u8],
}

/// The registers that unwinding begins with, as the kernel numbers them (`asm/perf_regs.h`): BP, SP and IP.
#[cfg(target_arch = "x86_64")]
pub(super) const REGISTERS: u64 = 1 << 6 | 1 << 7 | 1 << 8;
/// The same: X29, LR, SP and PC.
#[cfg(target_arch = "aarch64")]
pub(super) const REGISTERS: u64 = 1 << 29 | 1 << 30 | 1 << 31 | 1 << 32;

/// Where a thread was in this program.
pub(super) struct Registers {
    pub(super) instruction: u64,
    pub(super) stack: u64,
    pub(super) all: UnwindRegsNative,
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

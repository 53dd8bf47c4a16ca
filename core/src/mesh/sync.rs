//! The primitives that the mesh is built of: the standard library's, or loom's when loom tries every interleaving.

#[cfg(loom)]
pub(super) use loom::{
    cell::UnsafeCell,
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering, fence},
    },
};

#[cfg(not(loom))]
pub(super) use {
    alloc::sync::Arc,
    core::{
        hint,
        sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering, fence},
    },
};

/// `core::cell::UnsafeCell` with loom's interface: each access says whether it reads or writes.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(core::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline(always)]
    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Keeps a value alone on its cache lines: two lines, because the prefetcher of x86 fetches them in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Alone<T>(pub(super) T);

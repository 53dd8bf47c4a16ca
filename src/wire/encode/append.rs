//! The one place of the encoders with `unsafe`: a reply is written where it goes in a few moves of fixed lengths.

use std::mem::MaybeUninit;

/// Appends `head`, and behind it `bytes` bytes, at least `E` and at most `B + E`, of which `begin` holds the first, and maybe more than
/// belong to them, and `end` the last. What has one to three assets is copied so, in two copies that overlap: a copy of each length of its
/// own would be a branch that is often guessed wrong. Returns the head where it stands now.
///
/// # Panics
/// Where `bytes` is out of its bounds.
#[inline(always)]
pub(super) fn append<'a, const H: usize, const B: usize, const E: usize>(
    out: &'a mut Vec<u8>,
    head: &[u8; H],
    begin: &[u8; B],
    end: &[u8; E],
    bytes: usize,
) -> &'a mut [u8; H] {
    assert!((E..=B + E).contains(&bytes));
    out.reserve(H + B + E);
    let length = out.len();
    let room: *mut MaybeUninit<u8> = out.spare_capacity_mut().as_mut_ptr();
    // SAFETY: there is room for `H + B + E` bytes, and no part ends behind them: `bytes` is at most `B + E`, and the end begins
    // `bytes - E` behind the head, which is not negative. What was written begins with the head, has no hole (the end begins at most `B`
    // bytes behind the head), and `H + bytes` bytes of it are written. Arrays of bytes are aligned anywhere. The borrow of `out` keeps the head where it is.
    unsafe {
        room.cast::<[u8; H]>().write(*head);
        room.add(H).cast::<[u8; B]>().write(*begin);
        room.add(H + bytes - E).cast::<[u8; E]>().write(*end);
        out.set_len(length + H + bytes);
        &mut *room.cast::<[u8; H]>()
    }
}

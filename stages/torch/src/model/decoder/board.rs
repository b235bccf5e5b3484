//! Numbers that a team writes and reads: each place is written by one member at a time, and read after a meeting.

use std::marker::PhantomData;

use tch::{Device, Kind, Tensor};

/// Memory that all members see.
pub struct Board<'a> {
    data: *mut f32,
    len: usize,
    memory: PhantomData<&'a ()>,
}

// SAFETY: what may happen at a time is what its functions ask of their callers.
unsafe impl Sync for Board<'_> {}

impl<'a> Board<'a> {
    /// Over numbers of one's own.
    pub fn over(numbers: &'a mut [f32]) -> Self {
        Self { data: numbers.as_mut_ptr(), len: numbers.len(), memory: PhantomData }
    }

    /// Over the memory of a tensor, which nobody else uses meanwhile.
    pub fn of(tensor: &'a Tensor) -> Self {
        let len = floats(tensor).len();
        Self { data: tensor.data_ptr().cast(), len, memory: PhantomData }
    }

    /// What is written there.
    ///
    /// # Safety
    /// Nobody writes until the last use of the slice.
    pub unsafe fn read(&self) -> &[f32] {
        // SAFETY: the memory lives as long as the board.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    /// So many places, to be written.
    ///
    /// # Safety
    /// Nobody else reads or writes them before the next meeting.
    #[expect(clippy::mut_from_ref, reason = "that nobody else has them is what the caller promises")]
    pub unsafe fn places(&self, first: usize, count: usize) -> &mut [f32] {
        assert!(count <= self.len && first <= self.len - count, "places on the board");
        // SAFETY: they lie within the memory.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(first), count) }
    }
}

/// The numbers of a tensor in the memory of the processor.
pub fn floats(tensor: &Tensor) -> &[f32] {
    let plain = tensor.kind() == Kind::Float && tensor.device() == Device::Cpu && tensor.is_contiguous();
    assert!(plain, "numbers in f32 lie in order in the memory of the processor");
    // SAFETY: the tensor holds so many numbers, and lives as long as what is returned.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

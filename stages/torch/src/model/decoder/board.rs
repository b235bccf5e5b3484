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
        let numbers = floats(tensor);
        Self { data: numbers.as_ptr().cast_mut(), len: numbers.len(), memory: PhantomData }
    }

    /// What is written there.
    ///
    /// # Safety
    /// Nobody writes until the last use of the slice.
    pub unsafe fn read(&self) -> &[f32] {
        // SAFETY: the memory lives as long as the board.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    /// Writes a number.
    ///
    /// # Safety
    /// Nobody else reads or writes this place before the next meeting.
    pub unsafe fn write(&self, at: usize, value: f32) {
        assert!(at < self.len, "a place on the board");
        // SAFETY: it lies within the memory.
        unsafe { self.data.add(at).write(value) }
    }

    /// Adds to a number.
    ///
    /// # Safety
    /// As of [`Self::write`].
    pub unsafe fn add(&self, at: usize, value: f32) {
        assert!(at < self.len, "a place on the board");
        // SAFETY: it lies within the memory.
        unsafe { *self.data.add(at) += value }
    }

    /// Multiplies a number.
    ///
    /// # Safety
    /// As of [`Self::write`].
    pub unsafe fn scale(&self, at: usize, factor: f32) {
        assert!(at < self.len, "a place on the board");
        // SAFETY: it lies within the memory.
        unsafe { *self.data.add(at) *= factor }
    }
}

/// The numbers of a tensor in the memory of the processor.
pub fn floats(tensor: &Tensor) -> &[f32] {
    let plain = tensor.kind() == Kind::Float && tensor.device() == Device::Cpu && tensor.is_contiguous();
    assert!(plain, "numbers in f32 lie in order in the memory of the processor");
    // SAFETY: the tensor holds so many numbers, and lives as long as what is returned.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

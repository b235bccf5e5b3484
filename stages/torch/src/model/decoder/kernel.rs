//! Products of few rows with weights as they lie in memory: y[row, column] = Σ x[row, k] · w[column, k].
//!
//! Each weight is read from memory once and used for all rows while it is near. The order of additions is that of k alone,
//! so a row's result does not depend on the rows beside it, to the last bit. It knows slices, not models.

use std::ops::Range;

/// Columns that are computed together, their weights read side by side.
const COLUMNS: usize = 4;

/// A matrix that lies in memory row by row.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// Its numbers, from the first of the first row.
    pub data: &'a [f32],
    /// From one row to the next.
    pub stride: usize,
    /// Numbers of a row that count.
    pub width: usize,
}

impl Matrix<'_> {
    fn check(&self, rows: usize) {
        let last = rows.checked_sub(1).map_or(0, |last| last * self.stride + self.width);
        assert!(last <= self.data.len(), "a matrix of {rows} rows lies within its memory");
    }
}

/// The instructions that this processor computes many numbers with.
#[derive(Debug, Clone, Copy)]
pub enum Instructions {
    /// 16 at a time.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 at a time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Instructions {
    /// Those of this processor, where they are known here.
    pub fn of_this_machine() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") {
                return Some(Self::Avx512);
            }
            if avx2 {
                return Some(Self::Avx2);
            }
        }
        None
    }

    /// Hands y[row, column] to `put`, for the rows of x and some of the rows of `weights`.
    pub fn product(
        self,
        x: Matrix<'_>,
        rows: usize,
        weights: Matrix<'_>,
        columns: Range<usize>,
        put: impl FnMut(usize, usize, f32),
    ) {
        assert_eq!(x.width, weights.width, "a product is over what both have");
        x.check(rows);
        weights.check(columns.end);
        // SAFETY: the processor has the instructions, and the matrices lie within their memory.
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::product_512(x, rows, weights, columns, put) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::product_256(x, rows, weights, columns, put) },
        }
    }

    /// Leaves Σ shares[row] · x[row] in `out`.
    pub fn mix(self, shares: &[f32], x: Matrix<'_>, out: &mut [f32]) {
        assert_eq!(x.width, out.len(), "a mixture is as wide as what is mixed");
        x.check(shares.len());
        // SAFETY: as above.
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::mix_512(shares, x, out) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::mix_256(shares, x, out) },
        }
    }
}

/// So many numbers side by side.
///
/// # Safety
/// The functions may be called where the processor has the instructions; pointers are to [`Self::COUNT`] numbers.
unsafe trait Lanes: Copy {
    const COUNT: usize;
    /// Rows that are computed together: sums of so many by [`COLUMNS`] fit into the registers.
    const ROWS: usize;
    unsafe fn zero() -> Self;
    unsafe fn all(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Asks for what is to be read soon; the pointer may be to anything.
    unsafe fn prefetch(from: *const f32);
    /// self + a·b.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// The sum of each.
    unsafe fn sums(each: [Self; COLUMNS]) -> [f32; COLUMNS];
}

#[inline(always)]
unsafe fn product<L: Lanes>(
    x: Matrix<'_>,
    rows: usize,
    weights: Matrix<'_>,
    columns: Range<usize>,
    mut put: impl FnMut(usize, usize, f32),
) {
    for first in columns.clone().step_by(COLUMNS) {
        // Where fewer columns are left, the last stands in for those that are not there.
        let place = |column: usize| (first + column).min(columns.end - 1) * weights.stride;
        // SAFETY: places of columns lie within the weights.
        let w: [*const f32; COLUMNS] =
            std::array::from_fn(|column| unsafe { weights.data.as_ptr().add(place(column)) });
        let count = COLUMNS.min(columns.end - first);
        let mut put = |row: usize, sums: [f32; COLUMNS]| {
            sums[..count].iter().enumerate().for_each(|(column, &sum)| put(row, first + column, sum));
        };
        let (passes, mut pass, mut row) = (rows.div_ceil(L::ROWS), 0, 0);
        while row < rows {
            // While these columns are near, the next ones are sent for: each pass sends for its share.
            let next = pass * COLUMNS / passes..(pass + 1) * COLUMNS / passes;
            let soon = Soon { distance: COLUMNS * weights.stride, columns: next };
            // SAFETY: rows of x lie within it.
            unsafe {
                row += match (rows - row).min(L::ROWS) {
                    6 => tile::<L, 6>(x, row, w, soon, &mut put),
                    5 => tile::<L, 5>(x, row, w, soon, &mut put),
                    4 => tile::<L, 4>(x, row, w, soon, &mut put),
                    3 => tile::<L, 3>(x, row, w, soon, &mut put),
                    2 => tile::<L, 2>(x, row, w, soon, &mut put),
                    _ => tile::<L, 1>(x, row, w, soon, &mut put),
                };
            }
            pass += 1;
        }
    }
}

/// What will be read after the columns at work: so far from these, of some of them.
struct Soon {
    distance: usize,
    columns: Range<usize>,
}

/// `ROWS` rows from `first` on, by [`COLUMNS`] columns; returns the rows.
#[inline(always)]
unsafe fn tile<L: Lanes, const ROWS: usize>(
    x: Matrix<'_>,
    first: usize,
    w: [*const f32; COLUMNS],
    soon: Soon,
    put: &mut impl FnMut(usize, [f32; COLUMNS]),
) -> usize {
    // SAFETY: the caller's rows and columns lie within their matrices, and k within their width.
    unsafe {
        let from = x.data.as_ptr().add(first * x.stride);
        let mut sums = [[L::zero(); COLUMNS]; ROWS];
        let whole = x.width - x.width % L::COUNT;
        let mut k = 0;
        while k < whole {
            let lanes: [L; ROWS] = std::array::from_fn(|row| L::load(from.add(row * x.stride + k)));
            for column in soon.columns.clone() {
                L::prefetch(w[column].wrapping_add(soon.distance + k));
            }
            for column in 0..COLUMNS {
                let weight = L::load(w[column].add(k));
                for row in 0..ROWS {
                    sums[row][column] = sums[row][column].add_product(lanes[row], weight);
                }
            }
            k += L::COUNT;
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let mut found = L::sums(sums);
            for k in whole..x.width {
                let value = *from.add(row * x.stride + k);
                (0..COLUMNS).for_each(|column| found[column] += value * *w[column].add(k));
            }
            put(first + row, found);
        }
    }
    ROWS
}

#[inline(always)]
unsafe fn mix<L: Lanes>(shares: &[f32], x: Matrix<'_>, out: &mut [f32]) {
    // SAFETY: places of rows lie within x, and those within its width within `out`.
    unsafe {
        let mut at = 0;
        while at + 4 * L::COUNT <= x.width {
            let mut sums = [L::zero(); 4];
            for (row, &share) in shares.iter().enumerate() {
                let (from, share) = (x.data.as_ptr().add(row * x.stride + at), L::all(share));
                for (part, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.add_product(share, L::load(from.add(part * L::COUNT)));
                }
            }
            for (part, sum) in sums.into_iter().enumerate() {
                sum.store(out.as_mut_ptr().add(at + part * L::COUNT));
            }
            at += 4 * L::COUNT;
        }
        for (at, out) in out.iter_mut().enumerate().skip(at) {
            *out = shares.iter().enumerate().map(|(row, share)| share * x.data[row * x.stride + at]).sum();
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::{COLUMNS, Lanes, Matrix};

    /// [`super::product`] with 16 numbers at a time.
    #[target_feature(enable = "avx512f,avx2,fma")]
    pub unsafe fn product_512(
        x: Matrix<'_>,
        rows: usize,
        weights: Matrix<'_>,
        columns: Range<usize>,
        put: impl FnMut(usize, usize, f32),
    ) {
        // SAFETY: as the caller's.
        unsafe { super::product::<__m512>(x, rows, weights, columns, put) }
    }

    /// [`super::product`] with 8 numbers at a time.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn product_256(
        x: Matrix<'_>,
        rows: usize,
        weights: Matrix<'_>,
        columns: Range<usize>,
        put: impl FnMut(usize, usize, f32),
    ) {
        // SAFETY: as the caller's.
        unsafe { super::product::<__m256>(x, rows, weights, columns, put) }
    }

    /// [`super::mix`] with 16 numbers at a time.
    #[target_feature(enable = "avx512f,avx2,fma")]
    pub unsafe fn mix_512(shares: &[f32], x: Matrix<'_>, out: &mut [f32]) {
        // SAFETY: as the caller's.
        unsafe { super::mix::<__m512>(shares, x, out) }
    }

    /// [`super::mix`] with 8 numbers at a time.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn mix_256(shares: &[f32], x: Matrix<'_>, out: &mut [f32]) {
        // SAFETY: as the caller's.
        unsafe { super::mix::<__m256>(shares, x, out) }
    }

    // SAFETY: of the functions: the caller has the instructions, and its pointers are to as many numbers.
    unsafe impl Lanes for __m512 {
        const COUNT: usize = 16;
        const ROWS: usize = 6;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn all(value: f32) -> Self {
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn sums([a, b, c, d]: [Self; COLUMNS]) -> [f32; COLUMNS] {
            unsafe {
                // Of each quarter: a, b, c, d side by side.
                let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
                let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
                let all = _mm512_add_ps(low, _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
                let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(all)));
                quarters(_mm256_add_ps(_mm512_castps512_ps256(all), upper))
            }
        }
    }

    // SAFETY: as above.
    unsafe impl Lanes for __m256 {
        const COUNT: usize = 8;
        const ROWS: usize = 2;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { _mm256_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn all(value: f32) -> Self {
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn sums([a, b, c, d]: [Self; COLUMNS]) -> [f32; COLUMNS] {
            unsafe {
                let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
                let low = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
                quarters(_mm256_add_ps(low, _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd))))
            }
        }
    }

    /// The two halves added.
    #[inline(always)]
    unsafe fn quarters(all: __m256) -> [f32; COLUMNS] {
        let mut sums = [0.0; COLUMNS];
        // SAFETY: the caller has the instructions; four numbers are stored in four places.
        unsafe {
            let sum = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            _mm_storeu_ps(sums.as_mut_ptr(), sum);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect()
    }

    fn all() -> Vec<Instructions> {
        let mut all: Vec<Instructions> = Instructions::of_this_machine().into_iter().collect();
        #[cfg(target_arch = "x86_64")]
        if matches!(all[..], [Instructions::Avx512]) {
            all.push(Instructions::Avx2);
        }
        all
    }

    fn matrix(data: &[f32], stride: usize, width: usize) -> Matrix<'_> {
        Matrix { data, stride, width }
    }

    #[test]
    fn products_are_those_of_the_definition_and_of_each_row_by_itself() {
        for (rows, columns, width) in [(1, 1, 1), (5, 7, 40), (4, 8, 64), (3, 6, 19), (9, 3, 16)] {
            let (x, w) = (numbers(rows * (width + 3)), numbers(columns * width));
            let (x, w) = (matrix(&x, width + 3, width), matrix(&w, width, width));
            for instructions in all() {
                let mut found = vec![f32::NAN; rows * columns];
                instructions.product(x, rows, w, 0..columns, |row, column, y| found[row * columns + column] = y);
                for row in 0..rows {
                    let own = matrix(&x.data[row * x.stride..], x.stride, width);
                    instructions.product(own, 1, w, 0..columns, |_, column, y| {
                        let exact: f64 =
                            (0..width).map(|k| f64::from(own.data[k]) * f64::from(w.data[column * width + k])).sum();
                        assert!((f64::from(y) - exact).abs() < 1e-5, "{y} is not {exact}");
                        assert_eq!(y, found[row * columns + column]);
                    });
                }
            }
        }
    }

    #[test]
    fn mixtures_are_weighted_sums_of_rows() {
        for (rows, width) in [(1, 1), (5, 64), (7, 83), (3, 32)] {
            let (shares, x) = (numbers(rows), numbers(rows * (width + 1)));
            for instructions in all() {
                let mut out = vec![f32::NAN; width];
                instructions.mix(&shares, matrix(&x, width + 1, width), &mut out);
                for (at, &found) in out.iter().enumerate() {
                    let exact: f32 = (0..rows).map(|row| shares[row] * x[row * (width + 1) + at]).sum();
                    assert!((found - exact).abs() < 1e-5, "{found} is not {exact}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "lies within its memory")]
    fn a_matrix_that_is_not_there_is_not_read() {
        let short = numbers(7);
        let Some(instructions) = Instructions::of_this_machine() else { panic!("lies within its memory") };
        instructions.product(matrix(&short, 4, 4), 2, matrix(&short, 4, 4), 0..1, |_, _, _| {});
    }
}

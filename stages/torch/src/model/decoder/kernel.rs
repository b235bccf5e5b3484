//! Products of few rows with weights as they lie in memory: y[column, row] = Σ w[column, k] · x[k, row].
//!
//! Rows stand side by side, in lanes: x holds the first number of every row, then the second of every row, and so on. Each
//! weight is read from memory once, and meets the numbers of all rows while it is near. Sums are made in the order of k
//! alone, so a row's result depends neither on the rows beside it nor on the processor's instructions, to the last bit. It
//! knows slices, not models.

use std::ops::Range;

use super::softmax::softmax;

/// Columns whose weights stay near while all rows meet them: a multiple of what any tile takes.
pub const NEAR: usize = 24;

/// Numbers of a line of memory.
pub const LINE: usize = 16;

/// Rows fill up so many lanes, or a multiple.
const EIGHT: usize = 8;

/// Most lanes of a tile.
const MOST_LANES: usize = 8 * EIGHT;

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

/// Lanes that so many rows take.
pub fn lanes_for(rows: usize) -> usize {
    rows.next_multiple_of(EIGHT)
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
            if avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                return Some(Self::Avx512);
            }
            if avx2 {
                return Some(Self::Avx2);
            }
        }
        None
    }

    /// y[column, row] for x [k, lanes] and some of the rows of `weights`, which are the columns: hands each column, the first
    /// of some lanes, and their numbers to `put`.
    pub fn product(
        self,
        x: Matrix<'_>,
        weights: Matrix<'_>,
        columns: Range<usize>,
        put: impl FnMut(usize, usize, &[f32]),
    ) {
        assert_eq!(x.width, lanes_for(x.width), "lanes are filled up");
        x.check(weights.width);
        weights.check(columns.end);
        // SAFETY: the processor has the instructions, and the matrices lie within their memory.
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::product_512(x, weights, columns, put) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::product_256(x, weights, columns, put) },
        }
    }

    /// exp(scores) / Σ exp(scores); scores of −∞ become 0.
    pub fn softmax(self, scores: &mut [[f32; LINE]]) {
        // SAFETY: the processor has the instructions.
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::softmax_512(scores) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::softmax_256(scores) },
        }
    }
}

/// So many numbers side by side.
///
/// # Safety
/// The functions may be called where the processor has the instructions; pointers are to [`Self::COUNT`] numbers.
unsafe trait Lanes: Copy {
    const COUNT: usize;
    unsafe fn zero() -> Self;
    unsafe fn all(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Asks for what is to be read soon; the pointer may be to anything.
    unsafe fn prefetch(from: *const f32);
    /// self + a·b.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Some lanes of x, and the columns that they meet.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// From the first of the lanes and of k on.
    x: *const f32,
    /// From one k to the next.
    stride: usize,
    weights: Matrix<'a>,
    /// The columns that are near.
    columns: (usize, usize),
    /// Whether these lanes send for the weights that come after those at work.
    sends: bool,
}

/// Goes through all columns, and for those that are near through all lanes: `meet` is given some of them, at most so many
/// eights, which of the lanes is their first, and how many eights they are.
#[inline(always)]
unsafe fn product(
    x: Matrix<'_>,
    weights: Matrix<'_>,
    columns: Range<usize>,
    most_eights: usize,
    mut meet: impl FnMut(Part<'_>, usize, usize),
) {
    let eights = x.width / EIGHT;
    let parts = eights.div_ceil(most_eights);
    for first in columns.clone().step_by(NEAR) {
        let near = (first, (first + NEAR).min(columns.end));
        for part in 0..parts {
            let (start, end) = (eights * part / parts, eights * (part + 1) / parts);
            // SAFETY: a lane of the first k.
            let from = unsafe { x.data.as_ptr().add(start * EIGHT) };
            let part = Part { x: from, stride: x.stride, weights, columns: near, sends: part == 0 };
            meet(part, start * EIGHT, end - start);
        }
    }
}

/// So many vectors of lanes, wide ones and then narrow ones, by the near columns, so many at a time.
#[inline(always)]
unsafe fn tiles<W: Lanes, N: Lanes, const WIDE: usize, const NARROW: usize, const COLUMNS: usize>(
    part: Part<'_>,
    mut put: impl FnMut(usize, &[f32]),
) {
    let Part { x, stride, weights, columns: (first, end), sends } = part;
    for first in (first..end).step_by(COLUMNS) {
        // SAFETY: k lies within the width of the weights, which is the height of x; places of columns lie within the weights:
        // where fewer are left, the last stands in for those that are not there.
        unsafe {
            let place = |column: usize| (first + column).min(end - 1) * weights.stride;
            let w: [*const f32; COLUMNS] = std::array::from_fn(|column| weights.data.as_ptr().add(place(column)));
            let (mut wide, mut narrow) = ([[W::zero(); WIDE]; COLUMNS], [[N::zero(); NARROW]; COLUMNS]);
            let mut from = x;
            for line in (0..weights.width).step_by(LINE) {
                if sends {
                    w.iter().for_each(|w| W::prefetch(w.wrapping_add(COLUMNS * weights.stride + line)));
                }
                for k in line..weights.width.min(line + LINE) {
                    let wide_x: [W; WIDE] = std::array::from_fn(|i| W::load(from.add(i * W::COUNT)));
                    let narrow_x: [N; NARROW] =
                        std::array::from_fn(|i| N::load(from.add(WIDE * W::COUNT + i * N::COUNT)));
                    for column in 0..COLUMNS {
                        let weight = *w[column].add(k);
                        for i in 0..WIDE {
                            wide[column][i] = wide[column][i].add_product(W::all(weight), wide_x[i]);
                        }
                        for i in 0..NARROW {
                            narrow[column][i] = narrow[column][i].add_product(N::all(weight), narrow_x[i]);
                        }
                    }
                    from = from.wrapping_add(stride);
                }
            }
            for (column, (wide, narrow)) in (first..end).zip(wide.into_iter().zip(narrow)) {
                let mut sums = [0f32; MOST_LANES];
                let to = sums.as_mut_ptr();
                wide.into_iter().enumerate().for_each(|(i, sum)| sum.store(to.add(i * W::COUNT)));
                let to = to.add(WIDE * W::COUNT);
                narrow.into_iter().enumerate().for_each(|(i, sum)| sum.store(to.add(i * N::COUNT)));
                put(column, &sums[..WIDE * W::COUNT + NARROW * N::COUNT]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::{LINE, Lanes, Matrix, softmax, tiles};

    /// [`super::product`] with 16 numbers at a time, and with 8 where there are not more.
    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    pub unsafe fn product_512(
        x: Matrix<'_>,
        weights: Matrix<'_>,
        columns: Range<usize>,
        mut put: impl FnMut(usize, usize, &[f32]),
    ) {
        // SAFETY: as the caller's.
        unsafe {
            super::product(x, weights, columns, 8, |part, lane, eights| {
                let put = |column: usize, sums: &[f32]| put(column, lane, sums);
                match eights {
                    1 => tiles::<__m512, __m256, 0, 1, 8>(part, put),
                    2 => tiles::<__m512, __m256, 1, 0, 12>(part, put),
                    3 => tiles::<__m512, __m256, 1, 1, 12>(part, put),
                    4 => tiles::<__m512, __m256, 2, 0, 12>(part, put),
                    5 => tiles::<__m512, __m256, 2, 1, 8>(part, put),
                    6 => tiles::<__m512, __m256, 3, 0, 8>(part, put),
                    7 => tiles::<__m512, __m256, 3, 1, 6>(part, put),
                    _ => tiles::<__m512, __m256, 4, 0, 6>(part, put),
                }
            });
        }
    }

    /// [`super::product`] with 8 numbers at a time.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn product_256(
        x: Matrix<'_>,
        weights: Matrix<'_>,
        columns: Range<usize>,
        mut put: impl FnMut(usize, usize, &[f32]),
    ) {
        // SAFETY: as the caller's.
        unsafe {
            super::product(x, weights, columns, 2, |part, lane, eights| {
                let put = |column: usize, sums: &[f32]| put(column, lane, sums);
                match eights {
                    1 => tiles::<__m256, __m256, 1, 0, 12>(part, put),
                    _ => tiles::<__m256, __m256, 2, 0, 6>(part, put),
                }
            });
        }
    }

    /// [`softmax`] with 16 numbers at a time.
    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    pub unsafe fn softmax_512(scores: &mut [[f32; LINE]]) {
        softmax(scores);
    }

    /// [`softmax`] with 8 numbers at a time.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn softmax_256(scores: &mut [[f32; LINE]]) {
        softmax(scores);
    }

    // SAFETY: of the functions: the caller has the instructions, and its pointers are to as many numbers.
    unsafe impl Lanes for __m512 {
        const COUNT: usize = 16;

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
    }

    // SAFETY: as above.
    unsafe impl Lanes for __m256 {
        const COUNT: usize = 8;

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

    /// Rows, depth and columns that fill lanes, lines and tiles, and some that do not.
    const CASES: [[usize; 3]; 8] =
        [[1, 1, 1], [5, 40, 7], [8, 64, 24], [16, 19, 25], [24, 16, 50], [40, 33, 13], [61, 7, 30], [130, 20, 49]];

    /// y [columns, lanes] of x [depth, lanes].
    fn product(
        instructions: Instructions,
        x: &[f32],
        lanes: usize,
        weights: &[f32],
        [depth, columns]: [usize; 2],
    ) -> Vec<f32> {
        let x = Matrix { data: x, stride: x.len() / depth, width: lanes };
        let weights = Matrix { data: weights, stride: weights.len() / columns, width: depth };
        let mut found = vec![f32::NAN; columns * lanes];
        // In two shares, as members of a team have them.
        for share in [0..columns / 3, columns / 3..columns] {
            instructions.product(x, weights, share, |column, lane, y| {
                found[column * lanes + lane..][..y.len()].copy_from_slice(y);
            });
        }
        found
    }

    #[test]
    fn products_are_those_of_the_definition_with_all_instructions() {
        for [rows, depth, columns] in CASES {
            let lanes = lanes_for(rows);
            let (x, w) = (numbers(depth * (lanes + 3)), numbers(columns * (depth + 2)));
            let found: Vec<_> =
                all().into_iter().map(|instructions| product(instructions, &x, lanes, &w, [depth, columns])).collect();
            for (column, row) in (0..columns).flat_map(|column| (0..rows).map(move |row| (column, row))) {
                let exact = (0..depth)
                    .map(|k| f64::from(x[k * (lanes + 3) + row]) * f64::from(w[column * (depth + 2) + k]))
                    .sum::<f64>();
                let y = found[0][column * lanes + row];
                assert!((f64::from(y) - exact).abs() < 1e-5, "{rows} x {depth} x {columns}: {y} is not {exact}");
            }
            assert!(found.iter().all(|it| *it == found[0]), "the same bits with all instructions");
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        let (depth, columns) = (37, 29);
        let w = numbers(columns * depth);
        let own: Vec<f32> = numbers(depth).iter().map(|x| x * 1.7).collect();
        let beside = |instructions, row: usize, rows| {
            let lanes = lanes_for(rows);
            let mut x = numbers(depth * lanes);
            x.iter_mut().skip(row).step_by(lanes).zip(&own).for_each(|(x, own)| *x = *own);
            let found = product(instructions, &x, lanes, &w, [depth, columns]);
            found.into_iter().skip(row).step_by(lanes).collect::<Vec<_>>()
        };
        for instructions in all() {
            let alone = beside(instructions, 0, 1);
            for [row, rows] in [[2, 3], [15, 16], [20, 21], [39, 40], [50, 64], [99, 100]] {
                assert_eq!(beside(instructions, row, rows), alone, "row {row} of {rows}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "lies within its memory")]
    fn a_matrix_that_is_not_there_is_not_read() {
        let short = numbers(31);
        let Some(instructions) = Instructions::of_this_machine() else { panic!("lies within its memory") };
        let matrix = |width| Matrix { data: &short, stride: width, width };
        instructions.product(matrix(8), matrix(4), 0..1, |_, _, _| {});
    }
}

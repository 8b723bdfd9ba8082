//! Rows of equal length, side by side in one slice.

/// Row-major view: row `i` is `values[i * width..(i + 1) * width]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f64],
    width: usize,
}

impl<'a> Matrix<'a> {
    /// `None` when `width` is 0 or does not divide the number of values.
    pub fn new(values: &'a [f64], width: usize) -> Option<Self> {
        (width > 0 && values.len().is_multiple_of(width)).then_some(Self { values, width })
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    pub fn width(&self) -> usize {
        self.width
    }

    #[inline]
    pub fn row(&self, at: usize) -> &'a [f64] {
        &self.values[at * self.width..(at + 1) * self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        assert!(Matrix::new(&[1.0, 2.0, 3.0], 2).is_none());
        assert!(Matrix::new(&[1.0], 0).is_none());
        let matrix = Matrix::new(&[1.0, 2.0, 3.0, 4.0], 2).expect("2 by 2");
        assert_eq!((matrix.rows(), matrix.row(1)), (2, [3.0, 4.0].as_slice()));
    }
}

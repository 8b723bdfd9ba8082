//! A list that only grows, in pages: what is in it never moves, and a storm of new entries copies none.

const PAGE: usize = 512;

#[derive(Debug)]
pub(super) struct Pages<T> {
    pages: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: vec![], len: 0 }
    }
}

impl<T> Pages<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// `at` is below `len`.
    pub fn at(&self, at: u32) -> &T {
        &self.pages[at as usize / PAGE][at as usize % PAGE]
    }

    /// `at` is below `len`.
    pub fn at_mut(&mut self, at: u32) -> &mut T {
        &mut self.pages[at as usize / PAGE][at as usize % PAGE]
    }

    /// Its number.
    pub fn push(&mut self, entry: T) -> u32 {
        let number = self.len as u32;
        match self.pages.last_mut().filter(|page| page.len() < PAGE) {
            Some(page) => page.push(entry),
            None => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(entry);
                self.pages.push(page);
            }
        }
        self.len += 1;
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_are() {
        let mut pages = Pages::default();
        for entry in 0..3 * PAGE + 1 {
            assert_eq!((pages.push(entry), pages.len()), (entry as u32, entry + 1));
        }
        *pages.at_mut(PAGE as u32) += 7;
        assert_eq!((*pages.at(PAGE as u32 - 1), *pages.at(PAGE as u32)), (PAGE - 1, PAGE + 7));
    }
}

//! A short list of numbers. Most hold one, and that needs no memory of its own.

use std::ops::Deref;

#[derive(Debug, Clone, Default)]
pub(super) enum Few {
    #[default]
    None,
    One(u32),
    Several(Vec<u32>),
}

impl Few {
    pub fn push(&mut self, number: u32) {
        match self {
            Self::None => *self = Self::One(number),
            Self::One(first) => *self = Self::Several(vec![*first, number]),
            Self::Several(all) => all.push(number),
        }
    }
}

impl Deref for Few {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(all) => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_all_in_order() {
        let mut few = Few::default();
        for count in 0..4 {
            assert_eq!(&*few, &[7, 8, 9][..count]);
            few.push(7 + count as u32);
            if count == 2 {
                break;
            }
        }
        assert!(few.contains(&9) && few.len() == 3);
    }
}

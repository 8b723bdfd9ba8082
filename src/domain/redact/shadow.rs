//! The text as a scanner should read it, with the way back to the text as it is shown.
//!
//! A key written with full-width, mathematical, accented, Cyrillic or Greek letters reads `password` to
//! a person and to a model. Matching therefore happens on a folded copy; what is replaced is the
//! original. Folding is letter by letter (the compatibility forms of NFKC and the look-alikes of
//! Unicode TR 39 that matter for key words), so that each folded character knows where it came from.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::MARKS;

/// Stands where an earlier mark is; no text has it, for control characters are stripped before.
pub const BLANK: char = '\u{1}';

pub struct Shadow<'a> {
    pub text: Cow<'a, str>,
    /// Where the distance to the original changes: from this byte of `text`, that byte of the original.
    bends: Vec<(usize, usize)>,
    end: usize,
}

impl<'a> Shadow<'a> {
    pub fn of(original: &'a str) -> Self {
        let (mut text, mut bends) = (String::new(), vec![]);
        let mut folded = 0;
        let mut char_of = [0; 4];
        for (at, char) in original.char_indices().filter(|(_, char)| !char.is_ascii()) {
            let mut as_read = String::new();
            fold_into(char, &mut as_read);
            if as_read == *char.encode_utf8(&mut char_of) {
                continue;
            }
            text.push_str(original.get(folded..at).unwrap_or_default());
            folded = at + char.len_utf8();
            bends.push((text.len(), at));
            text.push_str(&as_read);
            bends.push((text.len(), folded));
        }
        let text = if bends.is_empty() {
            Cow::Borrowed(original)
        } else {
            text.push_str(original.get(folded..).unwrap_or_default());
            Cow::Owned(text)
        };
        Shadow { text: blank(text), bends, end: original.len() }
    }

    /// The place in the original of a place in the folded text. A folded character is replaced whole.
    pub fn origin(&self, at: usize) -> usize {
        let bend = self.bends.partition_point(|(from, _)| *from <= at);
        match bend.checked_sub(1).and_then(|bend| self.bends.get(bend)) {
            Some((from, to)) => (to + (at - from)).min(self.end),
            None => at,
        }
    }
}

/// For key words of other alphabets: they must be folded as the text is.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    text.chars().for_each(|char| fold_into(char, &mut folded));
    folded
}

fn blank(text: Cow<'_, str>) -> Cow<'_, str> {
    static MARK: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(&format!(r"\[(?:{}) redacted\]", MARKS.join("|"))).ok());
    // Few texts have been here before; the search for a literal costs nearly nothing.
    if !(text.contains(']') && text.contains(" redacted]")) {
        return text;
    }
    let Some(mark) = MARK.as_ref() else { return text };
    let blanked = mark.replace_all(&text, |found: &regex::Captures<'_>| BLANK.to_string().repeat(found[0].len()));
    Cow::Owned(blanked.into_owned())
}

fn fold_into(char: char, into: &mut String) {
    if char.is_ascii() {
        into.push(char);
        return;
    }
    match char {
        // Marks above, below and through a letter: they change the look of a key, not the key.
        '\u{0300}'..='\u{036F}'
        | '\u{1AB0}'..='\u{1AFF}'
        | '\u{1DC0}'..='\u{1DFF}'
        | '\u{20D0}'..='\u{20FF}'
        | '\u{FE20}'..='\u{FE2F}'
        | '\u{115F}'
        | '\u{1160}'
        | '\u{17B4}'
        | '\u{17B5}'
        | '\u{3164}'
        | '\u{FFA0}' => {}
        '\u{00A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => into.push(' '),
        '\u{FF01}'..='\u{FF5E}' => into.push(offset(char, 0xFF01, b'!')),
        '\u{1D400}'..='\u{1D6A3}' => into.push(mathematical(char)),
        '\u{1D7CE}'..='\u{1D7FF}' => into.push(digit((char as u32 - 0x1D7CE) % 10)),
        '\u{24B6}'..='\u{24CF}' => into.push(offset(char, 0x24B6, b'A')),
        '\u{24D0}'..='\u{24E9}' => into.push(offset(char, 0x24D0, b'a')),
        '\u{249C}'..='\u{24B5}' => into.push(offset(char, 0x249C, b'a')),
        '\u{1F130}'..='\u{1F149}' => into.push(offset(char, 0x1F130, b'A')),
        '\u{1F150}'..='\u{1F169}' => into.push(offset(char, 0x1F150, b'A')),
        '\u{1F170}'..='\u{1F189}' => into.push(offset(char, 0x1F170, b'A')),
        '\u{1F1E6}'..='\u{1F1FF}' => into.push(offset(char, 0x1F1E6, b'A')),
        _ => match LOOKS.binary_search_by_key(&char, |(look, _)| *look) {
            Ok(found) => into.push(LOOKS[found].1),
            Err(_) => into.push(char),
        },
    }
}

fn offset(char: char, from: u32, to: u8) -> char {
    char::from_u32(char as u32 - from + u32::from(to)).unwrap_or(char)
}

fn digit(number: u32) -> char {
    char::from_digit(number, 10).unwrap_or('0')
}

/// Thirteen alphabets of 52 letters each (Unicode block Mathematical Alphanumeric Symbols).
fn mathematical(char: char) -> char {
    match (char as u32 - 0x1D400) % 52 {
        letter @ 0..26 => offset(char::from_u32(letter).unwrap_or_default(), 0, b'A'),
        letter => offset(char::from_u32(letter - 26).unwrap_or_default(), 0, b'a'),
    }
}

/// What looks like an ASCII character, from one string of looks a character.
static LOOKS: LazyLock<Vec<(char, char)>> = LazyLock::new(|| {
    const OF: &[(char, &str)] = &[
        ('a', "àáâãäåāăąǎȧạảấầẩẫậắằẳẵặɑαаᴀªᵃₐ⍺"),
        ('b', "ƅɓʙЬьᵇᏏ"),
        ('c', "çćĉċčƈϲсᴄⅽᶜꮯ"),
        ('d', "ďđɗԁᴅⅾᵈꓒ"),
        ('e', "èéêëēĕėęěẹẻẽếềểễệеєҽᴇᵉₑ℮ℯ"),
        ('f', "ƒꜰᶠ"),
        ('g', "ĝğġģǧɡցɢᵍℊ"),
        ('h', "ĥħһհʜʰₕℎ"),
        ('i', "ìíîïĩīĭįıǐịỉɩіιɪⅰⁱᵢ"),
        ('j', "ĵǰϳјᴊʲⱼ"),
        ('k', "ķǩκкᴋᵏₖ"),
        ('l', "ĺļľłŀɭӏʟⅼˡₗℓ"),
        ('m', "мᴍⅿᵐₘ"),
        ('n', "ñńņňŉոռɴⁿₙ"),
        ('o', "òóôõöøōŏőǒọỏốồổỗộớờởỡợơοоօᴏºᵒₒσ"),
        ('p', "рρᴘᵖₚ"),
        ('q', "ԛգզ"),
        ('r', "ŕŗřгᴦʀʳᵣ"),
        ('s', "śŝşšșѕꜱˢₛƽſ"),
        ('t', "ţťŧțτтᴛᵗₜ"),
        ('u', "ùúûüũūŭůűųǔụủưứừửữựυսᴜᵘᵤц"),
        ('v', "νѵᴠⅴᵛᵥ"),
        ('w', "ŵẁẃẅԝաѡᴡʷ"),
        ('x', "хχⅹˣₓ×"),
        ('y', "ýÿŷỳỵỷỹуүγʏʸ"),
        ('z', "źżžᴢᶻ"),
        ('A', "ÀÁÂÃÄÅĀĂĄǍẠẢΑАᎪᴬ"),
        ('B', "ΒВᏴᴮℬ"),
        ('C', "ÇĆĈĊČСϹᏟⅭ"),
        ('D', "ĎĐᎠⅮᴰ"),
        ('E', "ÈÉÊËĒĔĖĘĚẸẺẼΕЕᎬᴱℰ"),
        ('F', "Ϝℱꓝ"),
        ('G', "ĜĞĠĢԌᏀᴳ"),
        ('H', "ĤĦΗНᎻᴴℋ"),
        ('I', "ÌÍÎÏĨĪĬĮİΙІӀᏆⅠᴵℐ"),
        ('J', "ĴЈᎫᴶ"),
        ('K', "ĶΚКᏦKᴷ"),
        ('L', "ĹĻĽŁᏞⅬᴸℒ"),
        ('M', "ΜМᎷⅯᴹℳ"),
        ('N', "ÑŃŅŇΝᴺ"),
        ('O', "ÒÓÔÕÖØŌŎŐƠΟОՕᴼ"),
        ('P', "ΡРᏢᴾ"),
        ('Q', "Ԛℚ"),
        ('R', "ŔŖŘᎡᴿℛ"),
        ('S', "ŚŜŞŠȘЅᏚՏ"),
        ('T', "ŢŤŦȚΤТᎢᵀ"),
        ('U', "ÙÚÛÜŨŪŬŮŰŲƯՍᵁ"),
        ('V', "ѴᏙⅤⱽ"),
        ('W', "ŴẀẂẄԜᎳᵂ"),
        ('X', "ΧХⅩ"),
        ('Y', "ÝŶŸỲΥҮ"),
        ('Z', "ŹŻŽΖᏃℤ"),
        ('0', "⁰₀"),
        ('1', "¹₁"),
        ('2', "²₂"),
        ('3', "³₃"),
        ('4', "⁴₄"),
        ('5', "⁵₅"),
        ('6', "⁶₆"),
        ('7', "⁷₇"),
        ('8', "⁸₈"),
        ('9', "⁹₉"),
        (':', "∶꞉ː︓﹕׃܃"),
        ('=', "゠﹦═⹀꞊"),
        ('-', "‐‑‒–—―−﹣⁃"),
        ('_', "﹍﹎﹏"),
        ('"', "“”„‟«»″「」『』"),
        ('\'', "‘’‚‛′ʼ‹›`´"),
        ('/', "∕⁄╱"),
        ('.', "․﹒"),
        (',', "、﹐،"),
        (';', "﹔؛"),
        ('@', "﹫"),
    ];
    let mut looks: Vec<(char, char)> =
        OF.iter().flat_map(|(plain, looks)| looks.chars().map(move |look| (look, *plain))).collect();
    looks.sort_unstable();
    looks.dedup_by_key(|(look, _)| *look);
    looks
});

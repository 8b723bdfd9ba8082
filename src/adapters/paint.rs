//! SVG to PNG, for chats that show no SVG. The font lies in the program, so that a picture looks the
//! same on every machine, those without fonts included.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// A phone shows about 1,100 pixels across, and the pictures are 440 wide.
const SCALE: f32 = 2.5;
/// Beyond it nobody scrolls, and memory grows with it: 1,100 by 4,000 pixels are 17 MiB.
const MOST_PIXELS: u32 = 4_000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaintError {
    #[error("the picture is no SVG: {0}")]
    NoSvg(String),
    #[error("the picture of {0} x {1} pixels cannot be painted")]
    Size(u32, u32),
    #[error("the picture cannot be encoded: {0}")]
    Encoding(String),
}

static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(include_bytes!("paint/DejaVuSans.ttf").to_vec());
    fonts.load_font_data(include_bytes!("paint/DejaVuSans-Bold.ttf").to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    fonts.set_monospace_family("DejaVu Sans");
    Arc::new(fonts)
});

/// Paints on white, as people see it by day: chats have no way to show two versions.
pub fn png(svg: &str) -> Result<Vec<u8>, PaintError> {
    let options = Options { fontdb: FONTS.clone(), font_family: "DejaVu Sans".into(), ..Options::default() };
    let tree = Tree::from_str(&by_day(svg), &options).map_err(|error| PaintError::NoSvg(error.to_string()))?;
    let size = tree.size();
    let scale = SCALE.min(MOST_PIXELS as f32 / size.width().max(size.height()));
    let (width, height) = ((size.width() * scale).ceil() as u32, (size.height() * scale).ceil() as u32);
    let mut canvas = Pixmap::new(width, height).ok_or(PaintError::Size(width, height))?;
    canvas.fill(resvg::tiny_skia::Color::WHITE);
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut canvas.as_mut());
    canvas.encode_png().map_err(|error| PaintError::Encoding(error.to_string()))
}

/// Without the styles for a dark screen, which the painter would not understand.
fn by_day(svg: &str) -> String {
    match (svg.find("@media"), svg.find("</style>")) {
        (Some(start), Some(end)) if start < end => format!("{}{}", &svg[..start], &svg[end..]),
        _ => svg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(text: &str) -> String {
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 100" width="440" height="100"><style>text{{font:12px ui-sans-serif,"Segoe UI",sans-serif;fill:#000}}@media (prefers-color-scheme:dark){{text{{fill:#fff}}}}</style><text x="20" y="50">{text}</text></svg>"#
        )
    }

    /// Pixels that are not white.
    fn ink(svg: &str) -> usize {
        let image = Pixmap::decode_png(&png(svg).unwrap()).unwrap();
        assert_eq!((image.width(), image.height()), (1100, 250));
        image.pixels().iter().filter(|pixel| pixel.red() < 128).count()
    }

    #[test]
    fn text_is_painted_without_fonts_of_the_machine() {
        let (none, some) = (ink(&picture("")), ink(&picture("payments p99 → 31 %")));
        assert_eq!(none, 0);
        assert!(some > 500, "{some} dark pixels");
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        assert!(matches!(png("<p>"), Err(PaintError::NoSvg(_))));
    }
}

//! Progress bars on stderr, which are hidden if stderr is not a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar of `steps` steps under the title `what`; it draws nothing if stderr is not a terminal.
pub fn bar(what: &str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let style = "{msg} {bar:32} {pos}/{len} [{elapsed} < {eta}]";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

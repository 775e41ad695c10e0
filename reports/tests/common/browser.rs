//! A headless Chromium that is driven over a pipe: one process for all pages, with any width and theme.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

/// The program names of the browser.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// The longest time for all pages of a test together.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// The browser on PATH.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = BROWSERS.iter().flat_map(|name| folders.iter().map(move |f| f.join(name)));
    places.into_iter().find(|place| place.is_file())
}

/// A running browser with one page.
pub struct Tab {
    child: Child,
    to: File,
    from: BufReader<File>,
    next: u64,
    /// Whether the browser may be closed.
    over: Arc<AtomicBool>,
    session: Option<String>,
    folder: tempfile::TempDir,
}

impl Tab {
    /// Starts the browser, which reads commands from its file descriptor 3 and answers on 4.
    pub fn open(browser: &Path) -> Tab {
        let folder = tempfile::tempdir().expect("a folder");
        let [to, from] = ["to", "from"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args([&to, &from]).status().expect("mkfifo runs");
        assert!(made.success(), "mkfifo failed");
        let script = "exec \"$0\" --headless --no-sandbox --disable-gpu --hide-scrollbars \
            --no-first-run --disable-background-networking --disable-sync --disable-component-update \
            --force-color-profile=srgb --font-render-hinting=none --remote-debugging-pipe \
            --user-data-dir=\"$1\" about:blank 3<\"$2\" 4>\"$3\"";
        let child = Command::new("sh")
            .args(["-c", script])
            .args([browser, &folder.path().join("profile"), &to, &from])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        // A browser that hangs is killed, which ends the reading of its answers.
        let process = child.id().to_string();
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        std::thread::spawn(move || {
            std::thread::sleep(TIME_LIMIT);
            if !ended.load(Ordering::SeqCst) {
                let _ = Command::new("kill").args(["-9", &process]).status();
            }
        });
        let to = OpenOptions::new().write(true).open(to).expect("the browser reads");
        let from = BufReader::new(File::open(from).expect("the browser writes"));
        let mut tab = Tab { child, to, from, next: 0, over, session: None, folder };
        let target = tab.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = tab.call("Target.attachToTarget", target);
        tab.session = session["sessionId"].as_str().map(str::to_owned);
        tab.call("Page.enable", json!({}));
        tab
    }

    /// Calls a method of the DevTools protocol and returns its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        let wanted = self.next;
        let answer = self.until(|message| message["id"] == wanted);
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    /// Reads messages until one is the wanted one.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut bytes = vec![];
            self.from.read_until(0, &mut bytes).expect("the browser answers");
            assert!(bytes.pop() == Some(0), "the browser has ended");
            let message: Value = serde_json::from_slice(&bytes).expect("JSON");
            if wanted(&message) {
                return message;
            }
        }
    }

    /// Shows a page in a window of this width.
    pub fn show(&mut self, html: &str, width: u32, dark: bool) {
        let file = self.folder.path().join("page.html");
        std::fs::write(&file, html).expect("written");
        let theme = if dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": theme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
        let screen =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", screen);
        self.call("Page.navigate", json!({"url": format!("file://{}", file.display())}));
        self.until(|message| message["method"] == "Page.loadEventFired");
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        self.call("Runtime.evaluate", asked)["result"]["value"].clone()
    }

    /// A picture of the whole page, at most `highest` pixels high before it is scaled, as PNG.
    pub fn picture(&mut self, scale: f64, highest: f64) -> Vec<u8> {
        let side = |value: Value| value.as_f64().expect("a number");
        let width = side(self.value("document.documentElement.clientWidth"));
        let height = side(self.value("document.documentElement.scrollHeight")).min(highest);
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": scale});
        let asked = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let answer = self.call("Page.captureScreenshot", asked);
        let data = answer["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The same picture as SVG: packages hold nodes, nodes hold cores, and lines go from a NIC's queues to their CPUs.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Role, caches, describe_nic, hangs_on, packages, role, title};
use crate::host::{Core, Host, Node};
use crate::plan::Placement;

const CORES_PER_LINE: usize = 10;
const CELL: (usize, usize) = (62, 20);
const GAP: usize = 8;
const HEAD: usize = 40;
/// Between the last core and the NICs, so that lines can be followed.
const ROOM: usize = 34;
const NIC_HEIGHT: usize = 26;

/// Draws it.
pub fn svg(host: &Host, placement: &Placement) -> String {
    let mut drawing = Drawing { body: String::new(), cells: BTreeMap::new(), width: 0 };
    let mut y = 74;
    drawing.text(20, 28, "title", &title(host, placement));
    drawing.legend();
    for (package, nodes) in packages(host) {
        let top = y;
        y += 30;
        for (node, cores) in &nodes {
            y = drawing.node(host, placement, node, cores, y) + GAP;
        }
        drawing.frame(10, top, "package", y - top);
        drawing.text(20, top + 20, "label", &format!("package {package}"));
        y += 2 * GAP;
    }
    let width = drawing.width + 20;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {y}\" width=\"{width}\" height=\"{y}\">\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{y}\"/>\n{}</svg>\n",
        drawing.body.replace("FRAME", &(width - 20).to_string()).replace("INNER", &(width - 40).to_string())
    )
}

const STYLE: &str = "text{font:12px ui-monospace,monospace;fill:#222}.title{font-size:16px;font-weight:bold}.label{font-weight:bold}\
.paper{fill:#fff}.package{fill:#f6f6f4;stroke:#888}.node{fill:#fff;stroke:#aaa}.shard{fill:#9fd3a8}.house{fill:#f3cf8a}\
.idle{fill:#e4e4e4}.spare{fill:#c9ddf2}.cell{stroke:#777}.nic{fill:#eadcf4;stroke:#777}.wire{stroke:#8a5fa8;fill:none;opacity:.55}";

struct Drawing {
    body: String,
    /// Where the box of each CPU ends: the middle of its lower edge.
    cells: BTreeMap<usize, (usize, usize)>,
    width: usize,
}

impl Drawing {
    fn text(&mut self, x: usize, y: usize, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.push(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"));
    }

    fn push(&mut self, element: impl std::fmt::Display) {
        writeln!(self.body, "{element}").expect("a String takes any text");
    }

    /// Behind everything that was drawn so far, as wide as the picture will be.
    fn frame(&mut self, x: usize, y: usize, class: &str, height: usize) {
        let width = if class == "package" { "FRAME" } else { "INNER" };
        let frame = format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\n"
        );
        self.body.insert_str(0, &frame);
    }

    fn legend(&mut self) {
        let entries = [
            ("shard", "shard"),
            ("house", "housekeeping"),
            ("idle", "idle beside a shard"),
            ("spare", "everything else"),
        ];
        let mut x = 20;
        for (class, words) in entries {
            self.push(format_args!(
                "<rect class=\"cell {class}\" x=\"{x}\" y=\"42\" width=\"14\" height=\"14\"/>"
            ));
            self.text(x + 20, 54, "", words);
            x += 40 + 8 * words.len();
        }
        self.width = self.width.max(x);
    }

    /// One node from `top` downwards; gives where it ends.
    fn node(
        &mut self,
        host: &Host,
        placement: &Placement,
        node: &Node,
        cores: &[&Core],
        top: usize,
    ) -> usize {
        let heading = format!("node {}: CPUs {}; {}", node.index, node.cpus, caches(cores).join("; "));
        let mut y = top + HEAD;
        for line in cores.chunks(CORES_PER_LINE) {
            for (column, core) in line.iter().enumerate() {
                self.core(placement, core, (34 + column * (CELL.0 + GAP), y));
            }
            let threads = line.iter().map(|core| core.cpus.len()).max().unwrap_or(1);
            y += threads * CELL.1 + GAP;
        }
        let nics = placement.nics.iter().filter(|place| hangs_on(host, &place.nic, node.index));
        let mut has_nic = false;
        for place in nics {
            y += if has_nic { GAP } else { ROOM };
            has_nic = true;
            let words = describe_nic(host, &place.nic).unwrap_or_default();
            self.nic(placement, &place.nic, &words, y);
            y += NIC_HEIGHT;
        }
        y += GAP;
        // Drawn last and put first, so that it lies behind; the package's comes later and lies behind both.
        self.frame(20, top, "node", y - top);
        self.text(30, top + 20, "label", &heading);
        self.width = self.width.max(40 + 8 * heading.len());
        y
    }

    fn core(&mut self, placement: &Placement, core: &Core, (x, y): (usize, usize)) {
        for (thread, cpu) in core.cpus.iter().enumerate() {
            let y = y + thread * CELL.1;
            let (class, word) = match role(placement, cpu) {
                Role::Shard(shard) => ("shard", format!("{cpu} s{shard}")),
                Role::Housekeeping => ("house", format!("{cpu} H")),
                Role::Idle => ("idle", cpu.to_string()),
                Role::Spare => ("spare", cpu.to_string()),
            };
            self.push(format_args!(
                "<rect class=\"cell {class}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\"/>",
                CELL.0, CELL.1
            ));
            self.text(x + 5, y + 14, "", &word);
            self.cells.insert(cpu, (x + CELL.0 / 2, y + CELL.1));
        }
        self.width = self.width.max(x + CELL.0 + 34);
    }

    /// The NIC's box, and a line from it to each CPU that serves one of its queues.
    fn nic(&mut self, placement: &Placement, name: &str, words: &str, y: usize) {
        let width = 20 + 8 * words.len();
        let irqs: Vec<_> = placement.irqs.iter().filter(|irq| irq.nic == name).collect();
        for (place, irq) in irqs.iter().enumerate() {
            let from = 40 + place * width.saturating_sub(20) / irqs.len().max(1);
            for (x, top) in
                irq.cpus.iter().filter_map(|cpu| self.cells.get(&cpu).copied()).collect::<Vec<_>>()
            {
                self.push(format_args!(
                    "<path class=\"wire\" d=\"M{from},{y} C{from},{} {x},{} {x},{top}\"><title>interrupt {} of queue {}</title></path>",
                    y.saturating_sub(16),
                    top + 16,
                    irq.irq,
                    irq.queue
                ));
            }
        }
        self.push(format_args!(
            "<rect class=\"nic\" x=\"34\" y=\"{y}\" width=\"{width}\" height=\"{NIC_HEIGHT}\" rx=\"4\"/>"
        ));
        self.text(44, y + 17, "", words);
        self.width = self.width.max(width + 60);
    }
}

//! Damage on the card, done while it is out of the machine: the machine comes up and says what is wrong.

use turnpike_tests::emulator::{Board, Card, Disk, Region, Stand};
use turnpike_tests::in_lab;

const BOARD: Board = Board::Virt { memory: 512 };
const BLOCK: u64 = 4_096;

/// Bytes of slot a's file system, without its hash tree.
fn root_bytes(card: &Card) -> u64 {
    let text = card.text("a/slot.env").expect("slot.env");
    let blocks = text
        .lines()
        .find_map(|line| line.strip_prefix("root_data_blocks="))
        .and_then(|number| number.trim().parse::<u64>().ok());
    blocks.expect("root_data_blocks") * BLOCK
}

/// Makes slot b a healthy copy of slot a, so that it boots.
fn fill_slot_b(card: &Card) {
    card.duplicate(Region::RootA, Region::RootB);
    for name in ["kernel", "initrd.img", "slot.env", "manifest.toml"] {
        let bytes = card.read(&format!("a/{name}")).expect("a file of slot a");
        card.write(&format!("b/{name}"), &bytes);
    }
    card.write("b/good", b"");
}

fn slot(stand: &Stand) -> String {
    stand.shell.must("cat /run/turnpike/card/slot").trim().to_owned()
}

in_lab! {
    #[ignore = "needs the card image: make card-test"]
    fn zeroed_environment_files_boot_the_last_good_slot() {
        let mut stand = Stand::new(BOARD);
        let card = stand.machine.card();
        for name in ["uboot.env", "trial.env"] {
            let length = card.read(name).expect("an environment file").len();
            card.write(name, &vec![0; length]);
        }
        stand.boot().expect("a status");
        assert_eq!(slot(&stand), "a");
        assert_eq!(stand.problems(), "");
        stand.machine.cut();
        let card = stand.machine.card();
        for name in ["uboot.env", "trial.env"] {
            card.write(name, &[0xff; 77]);
        }
        stand.boot().expect("a status");
        assert_eq!(slot(&stand), "a");
        assert_eq!(stand.problems(), "");
    }

    #[ignore = "needs the card image: make card-test"]
    fn a_damaged_root_starts_the_other_slot_which_says_so() {
        let mut stand = Stand::new(BOARD);
        let card = stand.machine.card();
        fill_slot_b(card);
        // Its superblock: read at the first moment.
        card.flip(Region::RootB.start() + 40);
        let text = { stand.machine.start(); stand.explained("root-corrupt").expect("an explanation") };
        println!("{text}");
        stand.status().expect("a daemon");
        assert_eq!(slot(&stand), "a");
        stand.machine.cut();
        assert!(stand.machine.card().text("b/bad").is_some(), "slot b is not marked");
    }

    #[ignore = "needs the card image: make card-test"]
    fn a_root_that_is_damaged_where_programs_are_starts_the_other_slot_in_the_end() {
        let mut stand = Stand::new(BOARD);
        let card = stand.machine.card();
        fill_slot_b(card);
        let bytes = root_bytes(card);
        // Everywhere but at the ends, where the superblock and the tables are.
        for part in 10..90 {
            card.flip(Region::RootB.start() + bytes * part / 100 / BLOCK * BLOCK + 99);
        }
        stand.machine.start();
        let text = stand.explained("root-corrupt").expect("an explanation");
        println!("{text}");
        stand.status().expect("a daemon");
        assert_eq!(slot(&stand), "a");
    }

    #[ignore = "needs the card image: make card-test"]
    fn a_damaged_root_without_another_slot_writes_a_report_and_touches_nothing_else() {
        let mut stand = Stand::new(BOARD);
        stand.boot().expect("a first boot");
        stand.machine.cut();
        let card = stand.machine.card();
        let data = card.bytes(Region::Data.start(), 64 << 20);
        card.flip(Region::RootA.start() + 40);
        stand.machine.start();
        stand
            .machine
            .see("no other slot to start", BOARD.patience())
            .expect("words on the console");
        stand.machine.cut();
        let card = stand.machine.card();
        let report = card.text("REPORT.txt").expect("REPORT.txt");
        assert!(report.contains("damaged"), "{report}");
        assert!(card.bytes(Region::Data.start(), 64 << 20) == data, "the data partition was written to");
    }

    #[ignore = "needs the card image: make card-test"]
    fn a_damaged_block_that_nobody_reads_does_not_keep_a_node_from_selling() {
        let mut stand = Stand::new(BOARD);
        let card = stand.machine.card();
        // Past the hash tree: the root's partition is larger than its content.
        card.flip(Region::RootA.start() + Region::RootA.bytes() - BLOCK);
        stand.boot().expect("a status");
        assert_eq!(stand.problems(), "");
    }

    #[ignore = "needs the card image: make card-test"]
    fn a_full_data_partition_is_said_and_the_store_goes_on() {
        let mut stand = Stand::new(BOARD);
        stand.boot().expect("a first boot");
        stand.shell.run("dd if=/dev/zero of=/data/fill bs=1M; sync").ok();
        // Whatever is left by the last whole MiB.
        stand.shell.run("dd if=/dev/zero of=/data/fill2 bs=4k; sync").ok();
        stand.machine.cut();
        stand.machine.start();
        println!("{}", stand.explained("data-full").expect("an explanation"));
        stand.status().expect("a daemon whose store opens");
        stand.client.start();
        stand.fund();
        stand.first_prices().expect("prices");
        stand.sale(3).expect("a sale on a full card");
    }

    #[ignore = "needs the card image: make card-test"]
    fn an_unreadable_data_partition_is_said_and_not_made_anew() {
        let mut stand = Stand::new(BOARD);
        stand.boot().expect("a first boot");
        stand.machine.cut();
        let card = stand.machine.card();
        // The superblock and its copies (sparse_super: groups 1 and 3 here), 128 MiB a group.
        for place in [0, 128 << 20, 384 << 20] {
            card.patch(Region::Data.start() + place, &[0xa5; 16_384]);
        }
        // It makes a host key of its own, in RAM.
        stand.shell.forget_host();
        stand.machine.start();
        println!("{}", stand.explained("data-unreadable").expect("an explanation"));
        stand.machine.cut();
        let left = stand.machine.card().bytes(Region::Data.start(), 4_096);
        assert!(left.iter().all(|byte| *byte == 0xa5), "the data partition was written to");
    }

    #[ignore = "needs the card image: make card-test"]
    fn a_settings_file_of_garbage_means_the_last_good_settings() {
        let mut stand = Stand::new(BOARD);
        stand.boot().expect("a first boot");
        stand.machine.cut();
        let garbage: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        stand.machine.card().write("turnpike.toml", &garbage);
        stand.machine.start();
        println!("{}", stand.explained("settings-garbage").expect("an explanation"));
        let status = stand.status().expect("a daemon with the last good settings");
        println!("{status}");
        stand.machine.cut();
        let report = stand.machine.card().text("REPORT.txt").expect("REPORT.txt");
        assert!(report.contains("turnpike.toml"), "{report}");
    }

    #[ignore = "needs the card image: make card-test"]
    fn garbage_on_a_fresh_card_boots_and_is_reported_on_the_card() {
        let mut stand = Stand::new(BOARD);
        stand.machine.card().write("turnpike.toml", &[0xfe; 5_000]);
        stand.machine.start();
        stand.machine.see("turnpike: ready", BOARD.patience()).expect("a boot to the end");
        // Nobody gave a key.
        assert!(stand.shell.run("true").is_err(), "reached without a key");
        stand.machine.cut();
        let report = stand.machine.card().text("REPORT.txt").expect("REPORT.txt");
        assert!(report.contains("turnpike.toml"), "{report}");
    }

    #[ignore = "needs the card image: make card-test"]
    fn a_card_that_confirms_writes_and_drops_them_is_found_out() {
        let mut stand = Stand::new(BOARD);
        let disk = Disk::serve(&stand.machine.card().path());
        stand.machine.through(Some(disk.name()));
        stand.boot().expect("a first boot");
        stand.lasted();
        stand.machine.cut();
        disk.forget(true);
        stand.machine.start();
        println!("{}", stand.explained("card-drops-writes").expect("an explanation"));
    }
}

# Sourced: where things are on the card (protocol/spec/card.md). MiB from the start of the card.
mib=$((1024 * 1024))
boot_start=4 boot_size=256
ledger_start=260
root_a_start=264 root_b_start=392 root_size=128
data_start=520 data_size=8
card_size=$((data_start + data_size))
disk_id=0x7470696b
boot_volume_id=74706b31
# One moment for every file: the commit's, so that two builds of one commit are one image.
verity_uuid=74757270-696b-4552-8f00-000000000001

"""The sample's small HRNet with the head and the codec of RTMPose, as an mmpose 1.x config."""
# ruff: noqa: C408  (mmpose's configs are calls of dict)

_base_ = "../sample/hrnet_sample_128x96.py"

simcc = dict(
    type="SimCCLabel",
    input_size=(96, 128),
    sigma=(3.46, 4.0),
    simcc_split_ratio=2.0,
    normalize=False,
    use_dark=False,
)

model = dict(
    head=dict(
        _delete_=True,
        type="RTMCCHead",
        in_channels=16,
        out_channels=17,
        input_size=simcc["input_size"],
        in_featuremap_size=(24, 32),
        simcc_split_ratio=simcc["simcc_split_ratio"],
        final_layer_kernel_size=1,  # as wide as HRNet's own, whose weights it starts from
        gau_cfg=dict(
            hidden_dims=128,
            s=64,
            expansion_factor=2,
            dropout_rate=0.0,
            drop_path=0.0,
            act_fn="SiLU",
            use_rel_bias=False,
            pos_enc=False,
        ),
        loss=dict(type="KLDiscretLoss", use_target_weight=True, beta=10.0, label_softmax=True),
        decoder=simcc,
    ),
    test_cfg=dict(_delete_=True, flip_test=True),
)

# SPDX-License-Identifier: Apache-2.0
"""A1111's fields that this server does not serve, with the values that mean what happens anyway.

Neutral values are A1111's defaults and those that its clients send with every request.
"""

from fastapi_triton.pictures.unserved_fields import Unserved

_NO_SUBSEED = "it has no effect without subseed_strength"
_ONE_PHASE = "it has no effect without enable_hr"
_NO_INITIAL_PICTURE = "it has no effect without init_images"
_NO_MASK = "it has no effect without a mask"
_NOT_STORED = "pictures are not stored on this server"
_NO_PREPROCESSOR = "it has no effect without a preprocessor"

_SHARED = {
    "comments": Unserved(),
    "disable_extra_networks": Unserved(neutral=(False,)),
    "do_not_save_grid": Unserved(_NOT_STORED, (False, True)),
    "do_not_save_samples": Unserved(_NOT_STORED, (False, True)),
    "override_settings_restore_afterwards": Unserved("settings apply to one request only", (True,)),
    "refiner_switch_at": Unserved("it has no effect without refiner_checkpoint", (0, 0.8)),
    "restore_faces": Unserved(neutral=(False,)),
    "s_churn": Unserved(neutral=(0,)),
    "s_min_uncond": Unserved(neutral=(0,)),
    "s_noise": Unserved(neutral=(0, 1)),
    "s_tmax": Unserved(neutral=(0,)),
    "s_tmin": Unserved(neutral=(0,)),
    "save_images": Unserved(_NOT_STORED, (False,)),
    "script_args": Unserved("it has no effect without script_name"),
    "seed_enable_extras": Unserved(_NO_SUBSEED, (False, True)),
    "seed_resize_from_h": Unserved(neutral=(-1, 0)),
    "seed_resize_from_w": Unserved(neutral=(-1, 0)),
    "styles": Unserved("this server has no styles"),
    "subseed": Unserved(_NO_SUBSEED, (-1,)),
}

INPAINTING = {
    "inpaint_full_res": Unserved(_NO_MASK, (False, True)),
    "inpaint_full_res_padding": Unserved(_NO_MASK, (0, 32)),
    "inpainting_fill": Unserved(_NO_MASK, (0, 1)),
    "inpainting_mask_invert": Unserved(_NO_MASK, (0,)),
    "latent_mask": Unserved(_NO_MASK),
    "mask_blur": Unserved(_NO_MASK, (0, 4)),
    "mask_blur_x": Unserved(_NO_MASK, (0, 4)),
    "mask_blur_y": Unserved(_NO_MASK, (0, 4)),
    "mask_round": Unserved(_NO_MASK, (True,)),
}

TXT2IMG = {
    **_SHARED,
    **INPAINTING,
    "denoising_strength": Unserved("it has no effect without enable_hr or init_images", (0, 0.7, 0.75)),
    "firstpass_image": Unserved(_ONE_PHASE),
    "firstphase_height": Unserved(_ONE_PHASE, (0,)),
    "firstphase_width": Unserved(_ONE_PHASE, (0,)),
    "hr_checkpoint_name": Unserved(_ONE_PHASE, ("Use same checkpoint",)),
    "hr_negative_prompt": Unserved(_ONE_PHASE),
    "hr_prompt": Unserved(_ONE_PHASE),
    "hr_resize_x": Unserved(_ONE_PHASE, (0,)),
    "hr_resize_y": Unserved(_ONE_PHASE, (0,)),
    "hr_sampler_name": Unserved(_ONE_PHASE, ("Use same sampler",)),
    "hr_scale": Unserved(_ONE_PHASE, (2,)),
    "hr_scheduler": Unserved(_ONE_PHASE, ("Use same scheduler",)),
    "hr_second_pass_steps": Unserved(_ONE_PHASE, (0,)),
    "hr_upscaler": Unserved(_ONE_PHASE, ("Latent", "None")),
    "image_cfg_scale": Unserved(_NO_INITIAL_PICTURE, (0, 1.5)),
    "include_init_images": Unserved(_NO_INITIAL_PICTURE, (False,)),
    "initial_noise_multiplier": Unserved(_NO_INITIAL_PICTURE, (0, 1)),
    "resize_mode": Unserved(_NO_INITIAL_PICTURE, (0,)),
}

# With a mask. Without one, there is also `INPAINTING`.
IMG2IMG = {
    **_SHARED,
    "inpaint_full_res_padding": Unserved("the whole picture is used", (0, 32)),
    "latent_mask": Unserved("send it as mask"),
    "mask_blur_x": Unserved("set mask_blur", (0, 4)),
    "mask_blur_y": Unserved("set mask_blur", (0, 4)),
    "mask_round": Unserved("the grey parts of a mask are blended", (True,)),
    "firstpass_image": Unserved(),
    "image_cfg_scale": Unserved("it is for InstructPix2Pix checkpoints", (0, 1.5)),
    "include_init_images": Unserved(neutral=(False,)),
    "initial_noise_multiplier": Unserved(neutral=(0, 1)),
}

SETTINGS = {
    "eta_noise_seed_delta": Unserved(neutral=(0,)),
    "samples_format": Unserved("pictures are PNG", ("png",)),
    "sd_vae": Unserved(neutral=("Automatic", "None")),
}

# Of the ControlNet extension's `detect`, with the values that its clients send.
DETECT = {
    "controlnet_masks": Unserved("masks are not supported"),
    "controlnet_processor_res": Unserved(_NO_PREPROCESSOR, (-1, 64, 512)),
    "controlnet_threshold_a": Unserved(_NO_PREPROCESSOR, (-1, 0, 64)),
    "controlnet_threshold_b": Unserved(_NO_PREPROCESSOR, (-1, 0, 64)),
    "low_vram": Unserved("the server decides", (False, True)),
}

CONTROLNET = {
    "advanced_weighting": Unserved(),
    "animatediff_batch": Unserved(neutral=(False,)),
    "batch_image_files": Unserved(),
    "batch_images": Unserved(),
    "batch_keyframe_idx": Unserved(),
    "batch_mask_dir": Unserved(),
    "batch_modifiers": Unserved(),
    "effective_region_mask": Unserved(),
    "generated_image": Unserved(),
    "guessmode": Unserved(neutral=(False,)),
    "hr_option": Unserved("there is no second pass", (0, "Both")),
    "inpaint_crop_input_image": Unserved("it is for inpainting", (False, True)),
    "input_mode": Unserved(neutral=("simple",)),
    "ipadapter_input": Unserved(),
    "is_ui": Unserved(neutral=(False, True)),
    "loopback": Unserved(neutral=(False,)),
    "low_vram": Unserved("the server decides", (False, True)),
    "lowvram": Unserved("the server decides", (False, True)),
    "output_dir": Unserved(_NOT_STORED),
    "pixel_perfect": Unserved(_NO_PREPROCESSOR, (False, True)),
    "processor_res": Unserved(_NO_PREPROCESSOR, (-1, 64, 512)),
    "pulid_mode": Unserved("it is for PuLID", ("Fidelity",)),
    "save_detected_map": Unserved("the response has no detected map", (False, True)),
    "threshold_a": Unserved(_NO_PREPROCESSOR, (-1, 0, 64)),
    "threshold_b": Unserved(_NO_PREPROCESSOR, (-1, 0, 64)),
    "union_control_type": Unserved(neutral=("Unknown", "Scribble")),
    "use_preview_as_input": Unserved(neutral=(False,)),
}

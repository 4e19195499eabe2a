"""What ``--help`` says beside the options."""

from typing import Final

DESCRIPTION: Final = """Draw pictures with the Stable Diffusion service of this machine.

PROMPT is what to draw; - reads it from standard input. The job is put into the queue, and its pictures are written
as they come. A PROMPT that begins with { is a whole request in JSON: it is put into the queue, its id is printed, and
its pictures go to the queue `results`, unless --wait or --output asks for them here.

\b
Commands:
  stablediffusion_client status        what is queued, who draws, and how fast
  stablediffusion_client models        samplers, LoRAs and other files that requests may name
  stablediffusion_client cancel ID...  end jobs
  stablediffusion_client dead          what was put aside for operators
  stablediffusion_client completion    what makes a shell complete options and names

Each has a --help of its own. To draw a prompt that is the name of a command, put -- before it:
stablediffusion_client -- status

\b
Examples:
  stablediffusion_client "a red cat" --seed 42 -o cat.png
  stablediffusion_client "a red cat" --count 4 -o "cat-{seed}.png"
  stablediffusion_client "in watercolours" --image cat.png --strength 0.6
  stablediffusion_client "a beach" --image cat.png --extend right=256
  stablediffusion_client "a red cat" --hires 2 --hires-strength 0.5
  stablediffusion_client --image cat.png --upscale 4 --upscaler RealESRGAN_x4plus
  stablediffusion_client --like cat.png "a red dog" -o dog.jpg
  stablediffusion_client "a barn <lora:ink:0.8>" --control edges=barn.png --preprocess canny
  stablediffusion_client '{"prompt": "cat", "seed": 42}'
  echo "a red cat" | stablediffusion_client - -o - | display
"""

EPILOG: Final = """Results (paths, ids, JSON) go to standard output, everything else to standard error. Ctrl-C
cancels the job. An existing file is overwritten, as cp does; a file appears whole or not at all.

\b
Exit codes:
    0  done
    1  the job failed
    2  the request or an option is wrong; nothing was drawn
    3  the broker or the response daemon cannot be reached, or refuses
    4  --timeout came first, whatever was waited for; the job was cancelled
   74  a picture, or standard output, could not be written
   78  the settings cannot be used
  130  Ctrl-C
"""

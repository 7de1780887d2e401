# The light way of README.md as an image: the page and its HTTP service with the released network.
#   docker build -t ferlab .
#   docker run --rm -p 127.0.0.1:7860:7860 ferlab        # http://127.0.0.1:7860
FROM python:3.12-slim
WORKDIR /ferlab
COPY requirements-predict.txt .
RUN pip install --no-compile --require-hashes -r requirements-predict.txt
COPY ferlab ferlab
COPY pretrained pretrained
USER nobody
EXPOSE 7860
CMD ["python", "-m", "ferlab", "demo", "--host", "0.0.0.0"]
